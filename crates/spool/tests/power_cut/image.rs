//! A file system of its own in a file, and the switch that takes its power away.
//!
//! Owns the image, its mounts and the process that stops the file system. Refuses with a reason where the host does not let us.
//! Whatever becomes of the test, nothing stays mounted: both guards clean up when they are dropped.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const IMAGE_BYTES: u64 = 96 << 20;
/// A ring's files are let go of by the kernel a moment after the ring is closed; by then a mount is free.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Stops file systems: `EXT4_IOC_SHUTDOWN`, for which Rust would need `unsafe`.
const STOPPER: &str = "
import fcntl, os, struct, sys
for line in sys.stdin:
    flags, path = line.rstrip('\\n').split(' ', 1)
    disk = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(disk, 0x8004587D, struct.pack('I', int(flags)))
        print('off', flush=True)
    except OSError as error:
        print(error, flush=True)
    os.close(disk)
";
/// The journal reaches the disk, dirty pages do not.
const LOG_FLUSHED: u32 = 1;
/// Nothing more reaches the disk.
const LOG_NOT_FLUSHED: u32 = 2;

/// An ext4 file system in a file. Removed with its folder.
pub(crate) struct Image {
    folder: TempDir,
}

impl Image {
    /// Says why, where there can be none.
    pub(crate) fn new() -> Result<Self, String> {
        let executable = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(executable.parent().unwrap()).unwrap();
        let image = Self { folder };
        let file = std::fs::File::create(image.file()).unwrap();
        file.set_len(IMAGE_BYTES).unwrap();
        std::fs::create_dir(image.folder.path().join("disk")).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", text(&image.file())])?;
        Ok(image)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    pub(crate) fn mount(&self) -> Result<Mounted, String> {
        let path = self.folder.path().join("disk");
        run("mount", &["-o", "loop", text(&self.file()), text(&path)])?;
        Ok(Mounted { path, is_mounted: true })
    }
}

/// A mounted image; its loop device goes with the mount.
pub(crate) struct Mounted {
    path: PathBuf,
    is_mounted: bool,
}

impl Mounted {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until nothing uses it any more.
    pub(crate) fn unmount(mut self) {
        let begun = Instant::now();
        while let Err(reason) = run("umount", &[text(&self.path)]) {
            assert!(begun.elapsed() < UNMOUNT_PATIENCE, "{reason}");
            thread::park_timeout(LOOK_INTERVAL);
        }
        self.is_mounted = false;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(reason) = run("umount", &["--lazy", text(&self.path)])
        {
            eprintln!("{reason}");
        }
    }
}

/// The hand at the switch.
pub(crate) struct Power {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Power {
    /// Says why, where the power of a file system cannot be cut; tries it once.
    pub(crate) fn find() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root mounts file systems and stops them".to_owned());
        }
        let mut power = Self::start()?;
        let image = Image::new()?;
        let disk = image.mount()?;
        let stopped = power.cut(disk.path(), true);
        disk.unmount();
        stopped.map(|()| power)
    }

    fn start() -> Result<Self, String> {
        let mut process = Command::new("python3")
            .args(["-c", STOPPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("python3: {error}"))?;
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Ok(Self { process, orders, answers })
    }

    /// When this returns, nothing that is written to the file system reaches the disk any more.
    pub(crate) fn cut(&mut self, mounted: &Path, journal_flushed: bool) -> Result<(), String> {
        let flags = if journal_flushed { LOG_FLUSHED } else { LOG_NOT_FLUSHED };
        let mut answer = String::new();
        writeln!(self.orders, "{flags} {}", text(mounted))
            .and_then(|()| self.answers.read_line(&mut answer))
            .map_err(|error| format!("python3 has ended: {error}"))?;
        match answer.trim() {
            "off" => Ok(()),
            reason => Err(format!("EXT4_IOC_SHUTDOWN: {reason}")),
        }
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
