//! Carries out one plan: sandboxes and containers are made as the plan says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use coracle_api_types::Object;
use coracle_cri::{Image, RuntimeEvent};
use coracle_plan_pods::{ContainerKind, Plan, Start, Update, Waiting, is_sidecar};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use crate::container::{self, Recipe, from_ephemeral};
use crate::fieldpath::find_container;
use crate::images::with_default_tag;
use crate::volumes::Place;
use crate::worker::Worker;
use crate::{hooks, kill, pull_secrets, resize, sandbox};

/// The pod has to end; what was begun is left to the way of its end.
pub(crate) struct Interrupted;

/// An image that is there.
struct Ready {
    id: String,
    image: Image,
}

impl Worker {
    /// Returns whether everything went well; if not, the next plan waits a little.
    pub(crate) async fn act(&mut self, plan: &Plan) -> Result<bool, Interrupted> {
        if plan.sandbox_changed && plan.create_sandbox.is_some() {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.ctx.normal(&self.pod, None, "SandboxChanged", message);
        }
        if plan.kill_pod {
            self.kill_everything().await;
            return Ok(true);
        }
        for victim in &plan.kill {
            let pod_ip = self.pod_ip();
            let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
            let call = kill::kill_one(&ctx, &pod, &victim.id, &victim.name, &victim.message, victim.reason, &pod_ip);
            self.unless_ending(call).await?;
        }
        for id in &plan.remove {
            if let Err(error) = self.ctx.runtime.remove_container(id).await {
                tracing::warn!(%error, id, "remove a container");
            }
        }
        if let Some(attempt) = plan.create_sandbox
            && !self.create_sandbox(attempt).await
        {
            return Ok(false);
        }
        if !plan.update.is_empty() {
            if let Err(error) = self.may_shrink(&plan.update).await {
                self.resize_failed(error);
                return Ok(false);
            }
            self.resize_pod(resize::Step::Grow).await;
        }
        for update in &plan.update {
            if let Err(error) = self.ctx.runtime.update_container_resources(&update.id, &update.resources).await {
                tracing::warn!(%error, container = update.name, "resize a container");
                self.resize_failed(format!("failed to update resources for container {:?}: {error}", update.name));
                return Ok(false);
            }
        }
        if !plan.update.is_empty() {
            self.resize_pod(resize::Step::Settle).await;
        }
        self.start_all(plan).await
    }

    /// Refuses limits that the memory in use would not fit into: the kernel would kill for them.
    async fn may_shrink(&self, updates: &[Update]) -> Result<(), String> {
        let mut errors = Vec::new();
        for update in updates.iter().filter(|update| update.resources.memory_limit > 0) {
            let now = self.runtime.latest(&update.name).map_or(0, |status| status.resources.memory_limit);
            if now > 0 && update.resources.memory_limit >= now {
                continue;
            }
            let Ok(stats) = self.ctx.runtime.container_stats(&update.id).await else {
                errors.push(format!("missing container {:?} memory usage", update.name));
                continue;
            };
            let limit = update.resources.memory_limit;
            if stats.memory_usage >= u64::try_from(limit).unwrap_or(0) {
                let (name, usage) = (&update.name, stats.memory_usage);
                errors.push(format!(
                    "attempting to set container {name:?} memory limit ({limit}) below current usage ({usage})"
                ));
            }
        }
        match errors.as_slice() {
            [] => Ok(()),
            [one] => Err(format!("cannot decrease memory limits: {one}")),
            many => Err(format!("cannot decrease memory limits: [{}]", many.join(", "))),
        }
    }

    /// The pod's group bounds those of its containers, so it grows before them and shrinks after them.
    async fn resize_pod(&self, step: resize::Step) {
        let path = sandbox::cgroup_parent(&self.ctx, &self.pod);
        let wanted = coracle_plan_pods::resources::pod_resources(&self.pod);
        let work = move || resize::resize(&path, &wanted, step);
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, pod = self.pod.name(), "resize the group of a pod"),
            Err(error) => tracing::warn!(%error, "resize the group of a pod"),
        }
    }

    async fn start_all(&mut self, plan: &Plan) -> Result<bool, Interrupted> {
        if plan.start.is_empty() {
            return Ok(true);
        }
        let image_volumes = self.image_volumes().await?;
        let mut all_well = true;
        for start in &plan.start {
            let Some(container) = self.container_of(start) else { continue };
            let well = self.start_one(start, &container, &image_volumes).await?;
            all_well &= well;
            if !well && start.kind == ContainerKind::Init && !is_sidecar(&container) {
                break;
            }
        }
        Ok(all_well)
    }

    fn container_of(&self, start: &Start) -> Option<Container> {
        if start.kind != ContainerKind::Ephemeral {
            return find_container(&self.pod, &start.name).cloned();
        }
        let all = self.pod.spec.as_ref()?.ephemeral_containers.as_deref()?;
        all.iter().find(|container| container.name == start.name).map(from_ephemeral)
    }

    async fn create_sandbox(&mut self, attempt: u32) -> bool {
        let made = match sandbox::config_for(&self.ctx, &self.pod, attempt) {
            Ok(config) => {
                let handler = match self.runtime_handler().await {
                    Ok(handler) => handler,
                    Err(error) => return self.sandbox_failed(&error.to_string()),
                };
                std::fs::create_dir_all(&config.log_directory)
                    .map_err(|error| error.to_string())
                    .map(|()| (config, handler))
            }
            Err(error) => Err(error.to_string()),
        };
        let (config, handler) = match made {
            Ok(made) => made,
            Err(error) => return self.sandbox_failed(&error),
        };
        match self.ctx.runtime.run_pod_sandbox(&config, &handler).await {
            Ok(id) => {
                self.known_sandboxes.push(id);
                self.gather().await;
                self.publish();
                true
            }
            Err(error) => self.sandbox_failed(&error.to_string()),
        }
    }

    fn sandbox_failed(&self, error: &str) -> bool {
        if !self.inbox.has_end() {
            let message = format!("Failed to create pod sandbox: {error}");
            self.ctx.warning(&self.pod, None, "FailedCreatePodSandBox", &message);
        }
        false
    }

    /// Pulls the images of image volumes; those that fail leave their containers waiting.
    async fn image_volumes(&mut self) -> Result<BTreeMap<String, String>, Interrupted> {
        let mut ids = BTreeMap::new();
        for (name, place) in self.volumes.places.clone() {
            let Place::Image { reference, pull_policy } = place else { continue };
            let stand_in =
                Container { image: Some(reference), image_pull_policy: Some(pull_policy), ..Container::default() };
            if let Ok(ready) = self.ensure_image(&stand_in, None).await? {
                ids.insert(name, ready.id);
            }
        }
        Ok(ids)
    }

    async fn start_one(
        &mut self,
        start: &Start,
        container: &Container,
        image_volumes: &BTreeMap<String, String>,
    ) -> Result<bool, Interrupted> {
        if let Some((until, message)) = &start.hold {
            self.hold(container, *until, message);
            return Ok(true);
        }
        if let Some(ended) = start.ended {
            self.backoff.raise(&start.backoff_key, ended, Timestamp::now());
        }
        let ready = match self.ensure_image(container, Some(container)).await? {
            Ok(ready) => ready,
            Err(waiting) => return Ok(self.set_waiting(container, waiting, true)),
        };
        if let Err(waiting) = self.missing_image_volume(container, image_volumes) {
            return Ok(self.set_waiting(container, waiting, true));
        }
        let attempt = self.attempt_of(start, container);
        match self.create_and_start(container, attempt, ready, image_volumes).await? {
            Ok(()) => {
                self.waiting.remove(&container.name);
                Ok(true)
            }
            Err(waiting) => Ok(self.set_waiting(container, waiting, false)),
        }
    }

    /// After a reboot the runtime has forgotten: the log files still tell how often the container ran.
    fn attempt_of(&self, start: &Start, container: &Container) -> u32 {
        if self.runtime.latest(&container.name).is_some() {
            return start.attempt;
        }
        let dir = self.ctx.pod_log_dir(&self.pod).join(&container.name);
        let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let number = |name: std::ffi::OsString| name.to_str()?.split('.').next()?.parse::<u32>().ok();
        names.filter_map(number).max().map_or(start.attempt, |last| last.saturating_add(1))
    }

    /// Told once for each delay.
    fn hold(&mut self, container: &Container, until: Timestamp, message: &str) {
        let waiting = Waiting { reason: "CrashLoopBackOff".to_owned(), message: message.to_owned() };
        self.waiting.insert(container.name.clone(), waiting);
        if self.told_holds.insert(container.name.clone(), until) == Some(until) {
            return;
        }
        let event = format!(
            "Back-off restarting failed container {} in pod {}",
            container.name,
            coracle_plan_pods::pod_text(&self.pod)
        );
        self.ctx.warning(&self.pod, Some(container), "BackOff", &event);
    }

    /// Always `false`, for the caller to hand on.
    fn set_waiting(&mut self, container: &Container, waiting: Waiting, of_image: bool) -> bool {
        let shown = if of_image { &waiting.reason } else { &waiting.message };
        self.ctx.warning(&self.pod, Some(container), "Failed", &format!("Error: {shown}"));
        self.waiting.insert(container.name.clone(), waiting);
        false
    }

    fn missing_image_volume(&self, container: &Container, ids: &BTreeMap<String, String>) -> Result<(), Waiting> {
        for mount in container.volume_mounts.iter().flatten() {
            if let Some(Place::Image { reference, .. }) = self.volumes.places.get(&mount.name)
                && !ids.contains_key(&mount.name)
            {
                return Err(Waiting {
                    reason: "ErrImagePull".to_owned(),
                    message: format!("failed to pull image volume {reference:?}"),
                });
            }
        }
        Ok(())
    }

    async fn create_and_start(
        &mut self,
        container: &Container,
        attempt: u32,
        ready: Ready,
        image_volumes: &BTreeMap<String, String>,
    ) -> Result<Result<(), Waiting>, Interrupted> {
        let failed = |reason: &str, message: String| Ok(Err(Waiting { reason: reason.to_owned(), message }));
        let Some(sandbox) = self.runtime.ready_sandbox().cloned() else {
            return failed("CreateContainerError", "the pod's sandbox is gone".to_owned());
        };
        let facts = self.facts();
        let recipe = Recipe {
            pod: &self.pod,
            container,
            attempt,
            image_id: ready.id,
            image: ready.image,
            volumes: &self.volumes,
            image_volumes,
            facts: &facts,
        };
        let config = match container::config_for(&self.ctx, &recipe).await {
            Ok(config) => config,
            Err(error) => return failed("CreateContainerConfigError", error.to_string()),
        };
        let sandbox_config = match sandbox::config_for(&self.ctx, &self.pod, sandbox.metadata.attempt) {
            Ok(config) => config,
            Err(error) => return failed("CreateContainerConfigError", error.to_string()),
        };
        let id = match self.ctx.runtime.create_container(&sandbox.id, &config, &sandbox_config).await {
            Ok(id) => id,
            Err(error) => return failed("CreateContainerError", error.to_string()),
        };
        self.known_containers.push(id.clone());
        self.ctx.normal(&self.pod, Some(container), "Created", "Container created");
        if let Err(error) = self.ctx.runtime.start_container(&id).await {
            return failed("RunContainerError", error.to_string());
        }
        self.ctx.normal(&self.pod, Some(container), "Started", "Container started");
        self.post_start(container, &id).await
    }

    async fn post_start(&mut self, container: &Container, id: &str) -> Result<Result<(), Waiting>, Interrupted> {
        let lifecycle = container.lifecycle.as_ref();
        let Some(hook) = lifecycle.and_then(|lifecycle| lifecycle.post_start.clone()) else { return Ok(Ok(())) };
        let (ctx, pod, pod_ip) = (self.ctx.clone(), self.pod.clone(), self.pod_ip());
        let result = self.unless_ending(hooks::run(&ctx, &pod, container, id, &pod_ip, &hook)).await?;
        let Err(message) = result else { return Ok(Ok(())) };
        ctx.warning(&pod, Some(container), "FailedPostStartHook", "PostStartHook failed");
        let reason = coracle_plan_pods::KillReason::Other;
        let kill = kill::kill_one(&ctx, &pod, id, &container.name, "FailedPostStartHook", reason, &pod_ip);
        self.unless_ending(kill).await?;
        Ok(Err(Waiting { reason: "PostStartHookError".to_owned(), message }))
    }

    /// `of`: the container whose events these are; `None` for volumes.
    async fn ensure_image(
        &mut self,
        wanted: &Container,
        of: Option<&Container>,
    ) -> Result<Result<Ready, Waiting>, Interrupted> {
        let asked = wanted.image.clone().unwrap_or_default();
        let failed = |reason: &str, message: String| Ok(Err(Waiting { reason: reason.to_owned(), message }));
        let image = match with_default_tag(&asked) {
            Ok(image) => image,
            Err(error) => {
                let message = format!("Failed to apply default image tag {asked:?}: {error}");
                self.ctx.warning(&self.pod, of, "InspectFailed", &message);
                return failed("InvalidImageName", message);
            }
        };
        let policy = wanted.image_pull_policy.as_deref().filter(|policy| !policy.is_empty());
        let policy = policy.unwrap_or(if image.ends_with(":latest") { "Always" } else { "IfNotPresent" });
        if policy != "Always" {
            match self.ctx.images.status(&image).await {
                Ok(Some(found)) => {
                    let message =
                        format!("Container image {asked:?} already present on machine and can be accessed by the pod");
                    self.ctx.normal(&self.pod, of, "Pulled", &message);
                    return Ok(Ok(Ready { id: found.id.clone(), image: found }));
                }
                Ok(None) if policy == "Never" => {
                    let message = format!("Container image {asked:?} is not present with pull policy of Never");
                    self.ctx.warning(&self.pod, of, "ErrImageNeverPull", &message);
                    return failed("ErrImageNeverPull", message);
                }
                Ok(None) => {}
                Err(error) => {
                    let message = format!("Failed to inspect image {asked:?}: {error}");
                    self.ctx.warning(&self.pod, of, "InspectFailed", &message);
                    return failed("ImageInspectError", message);
                }
            }
        }
        self.pull(&image, &asked, of).await
    }

    async fn pull(
        &mut self,
        image: &str,
        asked: &str,
        of: Option<&Container>,
    ) -> Result<Result<Ready, Waiting>, Interrupted> {
        let failed = |reason: &str, message: String| Ok(Err(Waiting { reason: reason.to_owned(), message }));
        if self.pull_backoff.hold_since_raised(image, Timestamp::now()).is_some() {
            let mut message = format!("Back-off pulling image {asked:?}");
            self.ctx.normal(&self.pod, of, "BackOff", &message);
            if let Some(previous) = self.pull_errors.get(image) {
                message = format!("{message}: {previous}");
            }
            return failed("ImagePullBackOff", message);
        }
        self.ctx.normal(&self.pod, of, "Pulling", &format!("Pulling image {asked:?}"));
        let begun = Instant::now();
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        let pull = async {
            let credentials = pull_secrets::credentials(&ctx, &pod, image).await;
            ctx.images.pull(image, &credentials).await
        };
        let pulled = match self.unless_ending(pull).await? {
            Ok(pulled) => pulled,
            Err(error) => {
                let message = format!("Failed to pull image {asked:?}: {error}");
                self.ctx.warning(&self.pod, of, "Failed", &message);
                let now = Timestamp::now();
                self.pull_backoff.raise(image, now, now);
                self.pull_errors.insert(image.to_owned(), format!("ErrImagePull: {error}"));
                return failed("ErrImagePull", error.to_string());
            }
        };
        self.pull_errors.remove(image);
        let found = match self.ctx.images.status(&pulled.id).await {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => return failed("ImageInspectError", error.to_string()),
        };
        let message = format!(
            "Successfully pulled image {asked:?} in {} ({} including waiting). Image size: {} bytes.",
            duration_text(pulled.took),
            duration_text(begun.elapsed()),
            found.size
        );
        self.ctx.normal(&self.pod, of, "Pulled", &message);
        Ok(Ok(Ready { id: pulled.id, image: found }))
    }
}

/// Go's way to write a duration of whole milliseconds: `85ms`, `1.2s`, `1m3.5s`.
fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let seconds = format!("{}.{:03}", millis / 1000 % 60, millis % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match millis / 60_000 {
        0 => format!("{seconds}s"),
        minutes if minutes < 60 => format!("{minutes}m{seconds}s"),
        minutes => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
    }
}

/// The uid of the pod that an event is about, and what to ask the runtime for.
pub(crate) fn event_target(event: &RuntimeEvent) -> Option<(&str, &str, Option<&str>)> {
    match event {
        RuntimeEvent::ContainerStarted { container_id, sandbox_id, pod_uid }
        | RuntimeEvent::ContainerExited { container_id, sandbox_id, pod_uid }
        | RuntimeEvent::ContainerRemoved { container_id, sandbox_id, pod_uid } => {
            Some((pod_uid, sandbox_id, Some(container_id)))
        }
        RuntimeEvent::SandboxStopped { sandbox_id, pod_uid } => Some((pod_uid, sandbox_id, None)),
        RuntimeEvent::Lagged => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (millis, want) in [(0, "0ms"), (85, "85ms"), (1200, "1.2s"), (61_050, "1m1.05s"), (3_600_000, "1h0m0s")] {
            assert_eq!(duration_text(Duration::from_millis(millis)), want);
        }
    }
}
