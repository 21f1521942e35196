//! Users and groups of an image, as its own `/etc/passwd` and `/etc/group` have them.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use coracle_cri::ContainerSecurityContext;
use coracle_host::{fs as host_fs, mount};

/// Largest `/etc/passwd` or `/etc/group` that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most supplementary groups of a process. Source: linux/limits.h `NGROUPS_MAX`.
const GROUPS_MAX: usize = 65_536;

/// Who a container runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// The text of both files; empty where there is none.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    passwd: String,
    group: String,
}

impl Tables {
    /// Reads them from the layers of an image, the highest first.
    pub fn read(layers: &[PathBuf]) -> coracle_host::Result<Self> {
        let root = open_root(layers)?;
        let text = |path: &str| -> coracle_host::Result<String> {
            let bytes = host_fs::read_in_root(&root, Path::new(path), FILE_BYTES_MAX)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Self { passwd: text("/etc/passwd")?, group: text("/etc/group")? })
    }

    /// Resolves what the pod and the image ask for. Source: CRI `LinuxContainerSecurityContext`, KEP-3619.
    pub fn resolve(&self, context: &ContainerSecurityContext, image_user: &str) -> Result<User, String> {
        let (image_name, image_group) = match image_user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (image_user, None),
        };
        let name = match (context.run_as_user, &context.run_as_username) {
            (Some(uid), _) => uid.to_string(),
            (None, Some(name)) if !name.is_empty() => name.clone(),
            _ => image_name.to_owned(),
        };
        let mut user = self.user(&name)?;
        if let Some(gid) = context.run_as_group {
            user.gid = id(gid)?;
        } else if let (Some(group), None) = (image_group, context.run_as_user) {
            user.gid = self.group(group)?;
        }
        if !context.supplemental_groups_strict {
            user.groups = self.groups_of(&name, user.uid);
        }
        for group in &context.supplemental_groups {
            user.groups.push(id(*group)?);
        }
        // The kernel's view of a process holds its own group as well.
        user.groups.push(user.gid);
        user.groups.sort_unstable();
        user.groups.dedup();
        user.groups.truncate(GROUPS_MAX);
        Ok(user)
    }

    /// A name, or a number that need not be listed.
    fn user(&self, name: &str) -> Result<User, String> {
        let name = if name.is_empty() { "0" } else { name };
        let number = name.parse::<u32>().ok();
        let fits = |fields: &&Vec<&str>| match number {
            Some(number) => fields.get(2).and_then(|uid| uid.parse().ok()) == Some(number),
            None => fields.first() == Some(&name),
        };
        let lines = fields(&self.passwd);
        match (lines.iter().find(fits), number) {
            (Some(found), _) => {
                let number = |at: usize| found.get(at).and_then(|text| text.parse().ok());
                let (Some(uid), Some(gid)) = (number(2), number(3)) else {
                    return Err(format!("unable to find user {name}: no matching entries in passwd file"));
                };
                let home = found.get(5).filter(|home| home.starts_with('/')).unwrap_or(&"/");
                Ok(User { uid, gid, groups: Vec::new(), home: (*home).to_owned() })
            }
            (None, Some(uid)) => {
                let home = if uid == 0 { "/root" } else { "/" };
                Ok(User { uid, gid: 0, groups: Vec::new(), home: home.to_owned() })
            }
            (None, None) => Err(format!("unable to find user {name}: no matching entries in passwd file")),
        }
    }

    fn group(&self, name: &str) -> Result<u32, String> {
        if let Ok(gid) = name.parse() {
            return Ok(gid);
        }
        let lines = fields(&self.group);
        let found = lines.iter().find(|fields| fields.first() == Some(&name));
        found
            .and_then(|fields| fields.get(2)?.parse().ok())
            .ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))
    }

    /// Groups that list the user by name.
    fn groups_of(&self, name: &str, uid: u32) -> Vec<u32> {
        let users = fields(&self.passwd);
        let by_id = users.iter().find(|fields| fields.get(2).and_then(|text| text.parse().ok()) == Some(uid));
        let name = match by_id.and_then(|fields| fields.first()) {
            Some(listed) => *listed,
            None => name,
        };
        let lines = fields(&self.group);
        let members = |fields: &&Vec<&str>| fields.get(3).is_some_and(|list| list.split(',').any(|one| one == name));
        lines.iter().filter(members).filter_map(|fields| fields.get(2)?.parse().ok()).collect()
    }
}

/// The root of an image, read-only, attached nowhere.
fn open_root(layers: &[PathBuf]) -> coracle_host::Result<OwnedFd> {
    match layers {
        [only] => host_fs::open_dir(only),
        layers => mount::overlay(layers, None),
    }
}

fn fields(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split(':').collect()).collect()
}

fn id(number: i64) -> Result<u32, String> {
    u32::try_from(number).map_err(|_| format!("user or group id {number} is out of range"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(context: &ContainerSecurityContext, image_user: &str, expected: Expect) {
        let tables = Tables {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# note\nweb:x:33:33::/var/www:/bin/false\n".into(),
            group: "root:x:0:\nwww:x:33:\nextra:x:44:web,other\n".into(),
        };
        let user = tables.resolve(context, image_user);
        expected.assert_eq(&match user {
            Ok(User { uid, gid, groups, home }) => format!("{uid}:{gid} {groups:?} {home}"),
            Err(why) => why,
        });
    }

    #[test]
    fn users_come_from_pod_and_image() {
        let asked = |user: Option<i64>, group: Option<i64>| ContainerSecurityContext {
            run_as_user: user,
            run_as_group: group,
            supplemental_groups: vec![2000],
            ..ContainerSecurityContext::default()
        };
        let nothing = ContainerSecurityContext::default();
        check(&nothing, "", expect!["0:0 [0] /root"]);
        check(&nothing, "web", expect!["33:33 [33, 44] /var/www"]);
        check(&nothing, "web:extra", expect!["33:44 [44] /var/www"]);
        check(&nothing, "1234:5678", expect!["1234:5678 [5678] /"]);
        check(&nothing, "nobody", expect!["unable to find user nobody: no matching entries in passwd file"]);
        check(&asked(Some(1000), None), "web", expect!["1000:0 [0, 2000] /"]);
        check(&asked(Some(33), Some(7)), "", expect!["33:7 [7, 44, 2000] /var/www"]);
        let strict = ContainerSecurityContext { supplemental_groups_strict: true, ..asked(Some(33), None) };
        check(&strict, "", expect!["33:33 [33, 2000] /var/www"]);
    }
}
