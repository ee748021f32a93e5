//! What the spool lies on: the file system's name, and whether its mount keeps promises at all.
//! Knows which file systems overwrite in place. Refuses nothing itself; where the kernel does not tell, the answer is
//! "unknown" and nothing is assumed to be volatile.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How older and newer kernels say it of a mount.
const VOLATILE: [&str; 2] = ["volatile", "fsync=volatile"];

/// "ext4", "xfs", "tmpfs", "overlayfs", "btrfs", or the magic number.
pub(crate) fn name(dir: &Path) -> String {
    const NAMES: [(u64, &str); 7] = [
        (0xef53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlayfs"),
        (0x9123_683e, "btrfs"),
        (0x2fc1_2fc1, "zfs"),
        (0x6969, "nfs"),
    ];
    match rustix::fs::statfs(dir) {
        Ok(found) => {
            // The field is signed on some platforms; only its 32 bits mean something.
            let magic = found.f_type.cast_unsigned() & 0xffff_ffff;
            let name = NAMES.iter().find(|(known, _)| *known == magic);
            name.map_or_else(|| format!("0x{magic:x}"), |(_, name)| (*name).to_owned())
        }
        Err(error) => format!("unknown ({error})"),
    }
}

/// Whether blocks once written are overwritten where they lie, so that a direct write needs no other. The layers of an
/// overlay are of some other file system; only its upper one is written to, and where that refuses, the probe tells.
pub(crate) fn overwrites_in_place(name: &str) -> bool {
    matches!(name, "ext4" | "xfs" | "overlayfs")
}

/// Whether the directory lies on an overlay mounted with `volatile`, on which every sync succeeds and none happens.
pub(crate) fn is_volatile(dir: &Path) -> bool {
    let Ok(metadata) = fs::metadata(dir) else { return false };
    let device = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| has_volatile(&mounts, device))
}

/// proc_pid_mountinfo(5): fields of the mount, a dash, then type, source and options of the file system.
fn has_volatile(mounts: &str, (major, minor): (u32, u32)) -> bool {
    let device = format!("{major}:{minor}");
    mounts.lines().filter(|line| line.split(' ').nth(2) == Some(&device)).any(|line| {
        let options = line.split_once(" - ").and_then(|(_, behind)| behind.rsplit(' ').next());
        options.is_some_and(|options| options.split(',').any(|option| VOLATILE.contains(&option)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
21 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
40 21 0:35 / /merged rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/volatile,workdir=/w,volatile\n\
41 21 0:36 / /sound rw,relatime shared:7 - overlay overlay rw,lowerdir=/a,upperdir=/volatile,workdir=/w\n\
42 21 0:37 / /newer rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/w,uuid=on,fsync=volatile\n";

    #[test]
    fn only_the_option_of_the_mount_counts() {
        assert!(has_volatile(MOUNTS, (0, 35)) && has_volatile(MOUNTS, (0, 37)));
        assert!(
            !has_volatile(MOUNTS, (0, 36)) && !has_volatile(MOUNTS, (254, 0)) && !has_volatile("", (0, 35))
        );
    }
}
