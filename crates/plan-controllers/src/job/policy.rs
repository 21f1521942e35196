//! What pod failures and successes mean for the job.

use coracle_api_types::Object;
use coracle_plan_core::pod;
use k8s_openapi::api::batch::v1::PodFailurePolicyRule;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{Turn, indexes::Indexes};

impl Turn<'_> {
    /// The first rule that speaks of the failed pod: its action, and what is to be said.
    fn rule_for(&self, pod: &Pod) -> Option<(&str, String)> {
        if pod::phase(pod) != "Failed" {
            return None;
        }
        let rules = &self.spec.pod_failure_policy.as_ref()?.rules;
        rules.iter().enumerate().find_map(|(index, rule)| {
            let what = matched(rule, pod)?;
            Some((rule.action.as_str(), format!("{what} matching {} rule at index {index}", rule.action)))
        })
    }

    pub(super) fn is_ignored(&self, pod: &Pod) -> bool {
        self.rule_for(pod).is_some_and(|(action, _)| action == "Ignore")
    }

    pub(super) fn fails_index(&self, pod: &Pod) -> bool {
        self.rule_for(pod).is_some_and(|(action, _)| action == "FailIndex")
    }

    pub(super) fn fail_job_message(&self) -> Option<String> {
        self.pods.iter().filter_map(|pod| self.rule_for(pod)).find(|(action, _)| *action == "FailJob").map(|own| own.1)
    }

    /// Source: `pkg/controller/job/success_policy.go`.
    pub(super) fn success_policy_message(&self) -> Option<String> {
        let rules = &self.spec.success_policy.as_ref()?.rules;
        for (position, rule) in rules.iter().enumerate() {
            let listed = rule.succeeded_indexes.as_deref().map(|text| Indexes::parse(text, self.completions()));
            let counted = match &listed {
                Some(listed) => listed.0.iter().filter(|&&index| self.succeeded_indexes.has(index)).count(),
                None => self.succeeded_indexes.0.len(),
            };
            let wanted = match (rule.succeeded_count, &listed) {
                (Some(count), _) => usize::try_from(count).unwrap_or(usize::MAX),
                (None, Some(listed)) => listed.0.len(),
                (None, None) => continue,
            };
            if counted >= wanted {
                return Some(format!("Matched rules at index {position}"));
            }
        }
        None
    }
}

fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let about = format!("{}/{}", pod.namespace(), pod.name());
    if let Some(wanted) = &rule.on_exit_codes {
        let status = pod.status.as_ref()?;
        let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        for container in all {
            let Some(code) = exit_code(container).filter(|&code| code != 0) else { continue };
            let named = wanted.container_name.as_deref().is_none_or(|name| name == container.name);
            let listed = wanted.values.contains(&code);
            let holds = if wanted.operator == "In" { listed } else { !listed };
            if named && holds {
                return Some(format!("Container {} for pod {about} failed with exit code {code}", container.name));
            }
        }
        return None;
    }
    for pattern in rule.on_pod_conditions.iter().flatten() {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        if pod::condition(pod, &pattern.type_).is_some_and(|own| own.status == wanted) {
            return Some(format!("Pod {about} has condition {}", pattern.type_));
        }
    }
    None
}

fn exit_code(container: &ContainerStatus) -> Option<i32> {
    Some(container.state.as_ref()?.terminated.as_ref()?.exit_code)
}
