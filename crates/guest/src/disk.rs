//! The guest's disk: busybox with every applet, the scripts that start the machine, and what the test brings.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Debian's `busybox-static`.
pub(crate) const BUSYBOX: &str = "/bin/busybox";
const FOLDERS: [&str; 12] =
    ["bin", "sbin", "dev", "etc", "lib/modules", "proc", "root", "run", "sys", "tmp", "usr/bin", "var/lib"];
const SCRIPTS: [(&str, &str); 3] = [
    ("etc/inittab", include_str!("files/inittab")),
    ("etc/start", include_str!("files/start.sh")),
    ("etc/agent", include_str!("files/agent.sh")),
];
const TEXTS: [(&str, &str); 5] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost guest\n"),
    ("etc/hostname", "guest\n"),
    // The emulator's own resolver.
    ("etc/resolv.conf", "nameserver 10.0.2.3\n"),
];

/// Something that a test brings into its guest.
#[derive(Debug, Clone)]
pub struct File {
    /// File or folder of this host.
    pub source: PathBuf,
    /// Where it is in the guest: `/bin/coracle`.
    pub target: String,
}

/// Writes a disk of `mib` MiB with `files` on it.
pub(crate) fn write(image: &Path, mib: u32, files: &[File], scratch: &Path) -> Result<()> {
    let tree = scratch.join("root");
    lay_out(&tree)?;
    for file in files {
        let target = tree.join(file.target.trim_start_matches('/'));
        copy(&file.source, &target)?;
    }
    let output = Command::new("mkfs.ext4")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-q", "-O", "^has_journal", "-d"])
        .arg(&tree)
        .arg(image)
        .arg(format!("{mib}M"))
        .output()
        .context("mkfs.ext4: run scripts/setup")?;
    ensure!(output.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(&tree)?;
    Ok(())
}

fn lay_out(tree: &Path) -> Result<()> {
    for folder in FOLDERS {
        std::fs::create_dir_all(tree.join(folder))?;
    }
    std::fs::set_permissions(tree.join("tmp"), std::fs::Permissions::from_mode(0o1777))?;
    for (path, text) in SCRIPTS.iter().chain(&TEXTS) {
        std::fs::write(tree.join(path), text)?;
    }
    for (path, _) in SCRIPTS {
        std::fs::set_permissions(tree.join(path), std::fs::Permissions::from_mode(0o755))?;
    }
    std::fs::copy(BUSYBOX, tree.join("bin/busybox")).with_context(|| format!("{BUSYBOX}: run scripts/setup"))?;
    let applets = Command::new(BUSYBOX).arg("--list").output()?;
    for applet in String::from_utf8(applets.stdout)?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", tree.join("bin").join(applet))?;
    }
    // Where the kernel looks for the program that loads modules.
    symlink("../bin/busybox", tree.join("sbin/modprobe"))?;
    Ok(())
}

/// `cp -a` with hard links where the file systems are the same.
fn copy(source: &Path, target: &Path) -> Result<()> {
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder)?;
    }
    for how in ["-al", "-a"] {
        let output = Command::new("cp").arg(how).arg(source).arg(target).output()?;
        if output.status.success() {
            return Ok(());
        }
        ensure!(how == "-al", "copy {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
        // A hard link across file systems may have got half way.
        let _ = std::fs::remove_dir_all(target);
    }
    Ok(())
}
