//! The file system and the block device below a path.
//!
//! It owns the way from a path through `/proc/self/mountinfo` to `/sys/dev/block`. It refuses nothing:
//! file systems without a device (tmpfs, overlay) have a name and options and no device.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Disk, probe};
use crate::files;

/// `/sys/block/*/size` counts in these, whatever the device's own block size.
const SECTOR_BYTES: u64 = 512;

/// What lies below `path`; `None` when no mount holds it.
pub(super) fn probe(root: &Path, path: &Path) -> Option<Disk> {
    let path = path.canonicalize().ok()?;
    let free_bytes =
        rustix::fs::statvfs(&path).ok().and_then(|free| free.f_bavail.checked_mul(free.f_frsize));
    // With another root the path lies below it, and mountinfo speaks of it as if from there.
    let path = path.strip_prefix(root.canonicalize().ok()?).ok()?;
    let mounts = files::text(root, "/proc/self/mountinfo")?;
    let mount = mounts
        .lines()
        .filter_map(Mount::parse)
        .filter(|mount| path.starts_with(mount.point.trim_start_matches('/')))
        // Of two mounts on one point the later hides the earlier, and max_by_key returns the last.
        .max_by_key(|mount| mount.point.len())?;
    let mut disk = Disk {
        source: Some(mount.source.clone()),
        filesystem: Some(mount.filesystem.clone()),
        mount_options: Some(mount.options.clone()),
        free_bytes,
        ..Disk::default()
    };
    if let Some(folder) = device_folder(root, &mount) {
        describe(&folder, &mut disk);
    }
    Some(disk)
}

struct Mount {
    device: String,
    point: String,
    options: String,
    filesystem: String,
    source: String,
}

impl Mount {
    /// One line of mountinfo (proc(5)): id, parent, major:minor, root, point, options, tags, "-", type,
    /// source, options of the file system.
    fn parse(line: &str) -> Option<Self> {
        let (mount, rest) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let mut rest = rest.split(' ');
        let (device, point) = (mount.next()?, mount.nth(1)?);
        let (filesystem, source) = (rest.next()?, rest.next()?);
        let mut options: Vec<&str> = mount.next()?.split(',').collect();
        for option in rest.next().unwrap_or("").split(',').filter(|option| !option.is_empty()) {
            if !options.contains(&option) {
                options.push(option);
            }
        }
        Some(Self {
            device: device.to_owned(),
            point: unescape(point),
            options: options.join(","),
            filesystem: filesystem.to_owned(),
            source: unescape(source),
        })
    }
}

/// Mountinfo writes white space and backslash in octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The folder in `/sys` of the device that has the queue: a partition's parent.
fn device_folder(root: &Path, mount: &Mount) -> Option<PathBuf> {
    let by_number = files::below(root, &format!("/sys/dev/block/{}", mount.device));
    // btrfs and others report an anonymous number, but name the device as their source.
    let by_name = mount
        .source
        .strip_prefix("/dev/")
        .map(|name| files::below(root, &format!("/sys/class/block/{name}")));
    let folder = by_number.canonicalize().ok().or_else(|| by_name?.canonicalize().ok())?;
    if folder.join("partition").exists() { folder.parent().map(Path::to_owned) } else { Some(folder) }
}

fn describe(folder: &Path, disk: &mut Disk) {
    let queue = folder.join("queue");
    let flag = |name| files::number(&queue.join(name)).map(|value| value != 0);
    disk.device = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    disk.model = files::line(&folder.join("device/model"));
    disk.below = names(&folder.join("slaves"));
    disk.rotational = flag("rotational");
    disk.write_cache = files::line(&queue.join("write_cache"));
    disk.fua = flag("fua");
    disk.scheduler = files::line(&queue.join("scheduler"))
        .as_deref()
        .map(|text| probe::chosen(text).unwrap_or_else(|| text.to_owned()));
    disk.logical_block_bytes = files::number(&queue.join("logical_block_size"));
    disk.physical_block_bytes = files::number(&queue.join("physical_block_size"));
    disk.requests_max = files::number(&queue.join("nr_requests"));
    disk.io_poll = flag("io_poll");
    disk.write_zeroes_bytes_max = files::number(&queue.join("write_zeroes_max_bytes"));
    disk.size_bytes =
        files::number(&folder.join("size")).and_then(|sectors| sectors.checked_mul(SECTOR_BYTES));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}
