//! `/containerLogs/{namespace}/{pod}/{container}`.

use std::path::PathBuf;

use bytes::Bytes;
use coracle_api_types::Object;
use coracle_client::{Body, BoxError};
use coracle_cri::{ContainerState, ContainerStatus};
use futures::StreamExt;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::{query_first, query_flag};
use crate::context::Ctx;
use crate::fieldpath::find_container;
use crate::logs::{LogQuery, stream};

/// Pieces of a log that wait for a slow reader.
const PIECES_MAX: usize = 16;

/// Why there is no log.
type Refusal = (StatusCode, String);

pub(super) async fn serve(
    ctx: &Ctx,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &str,
) -> Result<Response<Body>, Refusal> {
    let parsed = parse(query).map_err(|error| (StatusCode::BAD_REQUEST, error))?;
    let found = find(ctx, namespace, pod, container, query_flag(query, "previous"))?;
    let path = PathBuf::from(&found.log_path);
    if tokio::fs::metadata(&path).await.is_err() {
        let message = format!(
            "failed to try resolving symlinks in path {:?}: lstat {}: no such file or directory",
            found.log_path, found.log_path
        );
        return Err((StatusCode::INTERNAL_SERVER_ERROR, message));
    }
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let (workers, id) = (ctx.workers.clone(), found.id);
    let uid = found.labels.get(crate::sandbox::LABEL_POD_UID).cloned().unwrap_or_default();
    let own = uid.clone();
    let ended = move || {
        let snapshot = workers.get(&own).map(|inbox| inbox.snapshot());
        let alive = |status: &ContainerStatus| status.id == id && status.state == ContainerState::Running;
        !snapshot.is_some_and(|snapshot| snapshot.runtime.containers.iter().any(alive))
    };
    let changes = ctx.workers.get(&uid).map(|inbox| inbox.changes());
    // A pod without a worker changes no more.
    let changes = changes.unwrap_or_else(|| tokio::sync::watch::channel(0).1);
    let work = stream(path, parsed, ended, changes, sender);
    let stop = ctx.stop.clone();
    tokio::spawn(async move {
        if let Some(Err(error)) = stop.run_until_cancelled(work).await {
            tracing::debug!(%error, "read a log");
        }
    });
    Ok(streamed(receiver))
}

fn streamed(receiver: mpsc::Receiver<Bytes>) -> Response<Body> {
    let pieces = futures::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    let frames = pieces.map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let kind = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// The container whose log is asked for. Source: kubelet `validateContainerLogStatus`.
fn find(
    ctx: &Ctx,
    namespace: &str,
    pod_name: &str,
    container: &str,
    previous: bool,
) -> Result<ContainerStatus, Refusal> {
    let not_found = |message: String| Err((StatusCode::NOT_FOUND, message));
    let Some(snapshot) = ctx.workers.find(namespace, pod_name, "") else {
        return not_found(format!("pod \"{namespace}/{pod_name}\" not found\n"));
    };
    let Some(pod) = &snapshot.pod else { return not_found(format!("pod {pod_name:?} not found\n")) };
    let ephemeral = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    if find_container(pod, container).is_none() && !ephemeral.into_iter().any(|other| other.name == container) {
        return not_found(format!("container {container:?} not found in pod {:?}\n", pod.name()));
    }
    let mut all = snapshot.runtime.containers.iter().filter(|status| status.metadata.name == container);
    let latest = all.next();
    let before = all.next();
    let shown = match (previous, latest, before) {
        (true, _, Some(before)) => Some(before),
        (true, Some(latest), None) if latest.state == ContainerState::Exited => None,
        (true, ..) => None,
        (false, Some(latest), _) if latest.state == ContainerState::Created => before,
        (false, latest, _) => latest,
    };
    if let Some(shown) = shown {
        return Ok(shown.clone());
    }
    let message = if previous {
        format!("previous terminated container {container:?} in pod {pod_name:?} not found")
    } else {
        let status = snapshot.status.as_deref();
        let lists = status.map(|status| [&status.init_container_statuses, &status.container_statuses]);
        let waiting = lists.into_iter().flatten().flat_map(|list| list.as_deref().unwrap_or_default());
        let waiting = waiting.filter(|status| status.name == container);
        let reason = waiting.filter_map(|status| status.state.as_ref()?.waiting.as_ref()).next();
        match reason.map(|waiting| (waiting.reason.clone().unwrap_or_default(), waiting.message.clone())) {
            Some((reason, _)) if matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff") => {
                let why =
                    if reason == "ErrImagePull" { "image can't be pulled" } else { "trying and failing to pull image" };
                format!("container {container:?} in pod {pod_name:?} is waiting to start: {why}")
            }
            Some((reason, _)) => {
                format!("container {container:?} in pod {pod_name:?} is waiting to start: {reason}")
            }
            None => format!("container {container:?} in pod {pod_name:?} is not available"),
        }
    };
    Err((StatusCode::BAD_REQUEST, message))
}

fn parse(query: &str) -> Result<LogQuery, String> {
    let number = |name: &str| -> Result<Option<i64>, String> {
        match query_first(query, name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| format!("invalid value of {name}: {text:?}")),
        }
    };
    let since = match (number("sinceSeconds")?, query_first(query, "sinceTime")) {
        (Some(_), Some(_)) => return Err("at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned()),
        (Some(seconds), None) => Timestamp::now().checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, Some(text)) => Some(text.parse().map_err(|_| format!("invalid value of sinceTime: {text:?}"))?),
        (None, None) => None,
    };
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    Ok(LogQuery {
        follow: query_flag(query, "follow"),
        timestamps: query_flag(query, "timestamps"),
        since,
        tail_lines: positive(number("tailLines")?),
        limit_bytes: positive(number("limitBytes")?).filter(|limit| *limit > 0),
        stderr: match query_first(query, "stream").as_deref() {
            Some("Stdout") => Some(false),
            Some("Stderr") => Some(true),
            _ => None,
        },
    })
}
