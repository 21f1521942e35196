//! Acting as somebody else. Source: `k8s.io/apiserver/pkg/endpoints/filters/impersonation.go`.

use coracle_api_access::Attributes;
use coracle_api_meta::{Status, UserInfo};
use http::HeaderMap;

use super::authz::forbidden;
use super::query::decode;
use crate::server::Server;

const EXTRA_PREFIX: &str = "impersonate-extra-";

struct Wish<'a> {
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

/// The user that the request acts as, when `user` may impersonate it; `None` when it acts as itself.
pub(crate) async fn apply(server: &Server, user: &UserInfo, headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = text("impersonate-user");
    let groups: Vec<&str> =
        headers.get_all("impersonate-group").iter().filter_map(|value| value.to_str().ok()).collect();
    let uid = text("impersonate-uid");
    let extra: Vec<(String, &str)> = headers
        .iter()
        .filter_map(|(key, value)| {
            Some((decode(key.as_str().strip_prefix(EXTRA_PREFIX)?, false), value.to_str().ok()?))
        })
        .collect();
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::bad_request(
            "requested impersonation of groups, uid or extra data without impersonating a user",
        ));
    }
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, name)) => {
            may(server, user, &Wish { group: "", resource: "serviceaccounts", subresource: "", namespace, name })
                .await?;
        }
        None => may(server, user, &Wish { group: "", resource: "users", subresource: "", namespace: "", name }).await?,
    }
    for group in &groups {
        may(server, user, &Wish { group: "", resource: "groups", subresource: "", namespace: "", name: group }).await?;
    }
    let authentication = "authentication.k8s.io";
    if !uid.is_empty() {
        may(server, user, &Wish { group: authentication, resource: "uids", subresource: "", namespace: "", name: uid })
            .await?;
    }
    for (key, value) in &extra {
        may(
            server,
            user,
            &Wish { group: authentication, resource: "userextras", subresource: key, namespace: "", name: value },
        )
        .await?;
    }
    Ok(Some(become_user(name, account, &groups, uid, extra)))
}

async fn may(server: &Server, user: &UserInfo, wish: &Wish<'_>) -> Result<(), Status> {
    let attributes = Attributes {
        subresource: wish.subresource,
        namespace: wish.namespace,
        name: wish.name,
        ..Attributes::resource(user, "impersonate", wish.group, wish.resource)
    };
    let verdict = server.authorizer.decide(&*server.store, &attributes).await;
    if verdict.is_allowed() { Ok(()) } else { Err(forbidden(&attributes)) }
}

fn become_user(
    name: &str,
    account: Option<(&str, &str)>,
    groups: &[&str],
    uid: &str,
    extra: Vec<(String, &str)>,
) -> UserInfo {
    let mut user = match account {
        Some((namespace, account)) if groups.is_empty() => UserInfo::service_account(namespace, account, uid),
        _ => UserInfo { username: name.to_owned(), ..UserInfo::default() },
    };
    uid.clone_into(&mut user.uid);
    user.groups.extend(groups.iter().map(|&group| group.to_owned()));
    let anonymous = name == "system:anonymous" || user.in_group("system:unauthenticated");
    let default = if anonymous { "system:unauthenticated" } else { "system:authenticated" };
    if !user.in_group(default) {
        user.groups.push(default.to_owned());
    }
    for (key, value) in extra {
        user.extra.entry(key).or_default().push(value.to_owned());
    }
    user
}
