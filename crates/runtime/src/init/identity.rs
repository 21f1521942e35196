//! Who the program is and what it may do, down to the exec.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use coracle_host::{caps, fs as host_fs, process, seccomp};

use super::Failure;
use crate::spec::ProcessSpec;

/// Where commands are looked for when the environment does not say. Source: containerd `defaultUnixEnv`.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the root of the pod's users; what is made from now on belongs to it.
pub(super) fn enter_users(users: &OwnedFd) -> coracle_host::Result<()> {
    process::enter(users, process::Namespace::User)?;
    process::set_identity(0, 0, &[])
}

/// Makes the working directory when it is missing, as container runtimes do.
pub(super) fn make_working_dir(process: &ProcessSpec) -> coracle_host::Result<()> {
    let root = host_fs::open_dir(Path::new("/"))?;
    host_fs::mkdir_all_in_root(&root, Path::new(&process.working_dir), 0o755).map(drop)
}

/// Gives up every right that the program is not to have, and runs it.
pub(super) fn become_program(process: &ProcessSpec) -> Result<std::convert::Infallible, Failure> {
    let failed = |error: coracle_host::Error| format!("error during container init: {error}");
    process::set_umask(0o022);
    let early = process::change_dir(Path::new(&process.working_dir));
    caps::keep_through_identity_change(true).map_err(failed)?;
    caps::limit_bounding(process.caps).map_err(failed)?;
    if let (Some(filter), false) = (&process.seccomp, process.no_new_privs) {
        // Needs CAP_SYS_ADMIN, which goes away below.
        seccomp::install(filter).map_err(failed)?;
    }
    process::set_identity(process.uid, process.gid, &process.groups).map_err(failed)?;
    caps::apply(process.caps).map_err(failed)?;
    if early.is_err() {
        // Some folders let their owner in but not root, as those of NFS.
        let dir = &process.working_dir;
        process::change_dir(Path::new(dir)).map_err(|error| {
            let why = coracle_host::describe(error.errno());
            format!("error during container init: chdir to cwd ({dir:?}) set in config.json failed: {why}")
        })?;
    }
    if process.no_new_privs {
        seccomp::set_no_new_privs().map_err(failed)?;
        if let Some(filter) = &process.seccomp {
            seccomp::install(filter).map_err(failed)?;
        }
    }
    let program = find_program(process)?;
    process::close_on_exec_from(3).map_err(failed)?;
    let error = process::exec(&program, &process.arguments, &process.environment);
    Err(format!("exec {}: {}", program.display(), coracle_host::describe(error.errno())))
}

/// Finds the program the way a shell does. The words are those of runc, which users and tests know.
fn find_program(process: &ProcessSpec) -> Result<PathBuf, Failure> {
    let name = process.arguments.first().map(String::as_str).unwrap_or_default();
    if name.contains('/') {
        return match check_program(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(libc::ENOENT) => Err(format!("exec: {name:?}: stat {name}: no such file or directory")),
            Err(errno) => Err(format!("exec: {name:?}: {}", coracle_host::describe(errno))),
        };
    }
    let variable = process.environment.iter().find_map(|entry| entry.strip_prefix("PATH="));
    let mut refused = None;
    for folder in variable.unwrap_or(DEFAULT_PATH).split(':').filter(|_| !name.is_empty()) {
        let path = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match check_program(&path) {
            Ok(()) => return Ok(path),
            Err(libc::EACCES) => refused = Some(libc::EACCES),
            Err(_) => {}
        }
    }
    match refused {
        Some(errno) => Err(format!("exec: {name:?}: {}", coracle_host::describe(errno))),
        None => Err(format!("exec: {name:?}: executable file not found in $PATH")),
    }
}

fn check_program(path: &Path) -> Result<(), i32> {
    let metadata = std::fs::metadata(path).map_err(|error| error.raw_os_error().unwrap_or(libc::ENOENT))?;
    if metadata.is_dir() {
        return Err(libc::EISDIR);
    }
    if metadata.permissions().mode() & 0o111 == 0 { Err(libc::EACCES) } else { Ok(()) }
}
