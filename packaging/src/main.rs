//! The command line: makes the package, or the man pages alone.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the path of the package is this program's answer"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use packaging::package::{self, Order};

const EXAMPLES: &str = "\
Examples:
  package --binaries target/release                 kumod_VERSION_ARCH.deb in ./dist
  package --binaries target/release --manuals man   man pages only, in the new folder ./man
  SOURCE_DATE_EPOCH=1760000000 package --binaries target/debug --compression none --out /tmp

The same programs, sources and SOURCE_DATE_EPOCH give the same package, byte by byte.
Exit codes: 0 made, 1 failed, 2 usage.";

/// Makes a Debian package of programs that are built already
#[derive(Parser, Debug)]
#[command(name = "package", version, after_help = EXAMPLES)]
struct Args {
    /// The folder with kumod, kumo-proxy, traffic-gen, sink, tuner, reports and lab
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,
    /// The checkout that unit, policies and documents are taken from
    #[arg(long, value_name = "DIR", default_value = ".")]
    source: PathBuf,
    /// Where the package goes
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
    /// Write only the man pages, into this folder, which must not be there
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    manuals: Option<PathBuf>,
    /// Seconds since 1970 that all files carry, such as the time of the commit
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    epoch: i64,
    /// Who answers for the package
    #[arg(long, value_name = "NAME <ADDRESS>", default_value = "kumod packagers <postmaster@localhost>")]
    maintainer: String,
    /// How the package is packed: xz, zstd, gzip or none
    #[arg(long, value_name = "NAME", default_value = "xz")]
    compression: String,
    /// Leave symbols in the programs, for perf and core dumps
    #[arg(long)]
    keep_symbols: bool,
}

fn main() -> ExitCode {
    let Args { binaries, source, out, manuals, epoch, maintainer, compression, keep_symbols } = Args::parse();
    let is_manuals = manuals.is_some();
    let out = manuals.unwrap_or(out);
    let order = Order { binaries, source, out, epoch, maintainer, compression, keep_symbols };
    let made = if is_manuals {
        package::write_manuals(&order).map(|()| order.out.clone())
    } else {
        package::build(&order)
    };
    match made {
        Ok(path) => {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("package: {error}");
            ExitCode::FAILURE
        }
    }
}
