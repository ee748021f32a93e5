//! Sets of processors, as the kernel writes them: `0-3,8`.
//!
//! It owns the reading and writing of such lists, which processors this process may use, and their order by core, so that two
//! threads of one core stand side by side. It refuses lists with other characters, ranges that run backwards, and processors
//! that the system call for affinity cannot name.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{During, Result};

/// A set of processors, by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cores(BTreeSet<usize>);

impl Cores {
    /// The processors that this process may use.
    ///
    /// # Errors
    /// [`crate::error::Error::Host`] when the kernel does not say.
    pub fn allowed() -> Result<Self> {
        let set = sched_getaffinity(None).during(|| "ask for the processors of this process".into())?;
        Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
    }

    /// Keeps the calling thread, and every process that it starts from now on, to these processors.
    ///
    /// # Errors
    /// [`crate::error::Error::Host`] when the kernel refuses, as it does when none of them is there.
    pub fn pin(&self) -> Result<()> {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set).during(|| format!("run on processors {self}"))
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// All of them, threads of one core side by side, cores of one package together. `root` is `/` but in tests.
    pub fn by_core(&self, root: &Path) -> Vec<usize> {
        let number = |core, name| topology(root, core, name).and_then(|text| text.parse::<u32>().ok());
        let mut cores: Vec<usize> = self.0.iter().copied().collect();
        cores.sort_by_key(|core| (number(*core, "physical_package_id"), number(*core, "core_id"), *core));
        cores
    }

    /// Whether both sets have a thread of one core.
    pub fn share_a_core_with(&self, other: &Self, root: &Path) -> bool {
        let siblings = |core: &usize| topology(root, *core, "thread_siblings_list")?.parse::<Self>().ok();
        self.0.iter().filter_map(siblings).any(|siblings| !siblings.0.is_disjoint(&other.0))
    }
}

/// What the kernel says about the place of a processor; `None` where it says nothing.
fn topology(root: &Path, core: usize, name: &str) -> Option<String> {
    let path = format!("sys/devices/system/cpu/cpu{core}/topology/{name}");
    Some(std::fs::read_to_string(root.join(path)).ok()?.trim().to_owned())
}

impl FromIterator<usize> for Cores {
    fn from_iter<I: IntoIterator<Item = usize>>(cores: I) -> Self {
        Self(cores.into_iter().collect())
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for core in self.0.iter().copied() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == core => *last = core,
                _ => ranges.push((core, core)),
            }
        }
        for (at, (first, last)) in ranges.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if first == last { write!(out, "{comma}{first}")? } else { write!(out, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(list: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|core| *core < CpuSet::MAX_CPU);
        let range = |text: &str| -> Option<(usize, usize)> {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last)
        };
        let mut cores = BTreeSet::new();
        for part in list.split(',') {
            let (first, last) = range(part).ok_or_else(|| {
                format!(
                    "{list}: a list of processors is expected, such as 0, 0-3 or 0-3,8 (below {})",
                    CpuSet::MAX_CPU
                )
            })?;
            cores.extend(first..=last);
        }
        Ok(Self(cores))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::cgroup::fake::write;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_set_is_read_as_it_was_written(set in proptest::collection::btree_set(0..CpuSet::MAX_CPU, 1..40)) {
            let cores = Cores(set);
            prop_assert_eq!(cores.to_string().parse::<Cores>().unwrap(), cores);
        }

        #[test]
        fn no_list_is_too_strange(list in ".{0,20}") {
            if let Err(error) = list.parse::<Cores>() {
                prop_assert!(error.starts_with(&list) && error.contains("0-3,8"), "{}", error);
            }
        }
    }

    #[test]
    fn lists_are_the_kernels() {
        let list = |text: &str| text.parse::<Cores>().unwrap();
        assert_eq!(list("0-3,8"), [0, 1, 2, 3, 8].into_iter().collect());
        assert_eq!(list("0,1,2,4").to_string(), "0-2,4");
        for wrong in ["", "3-1", "1,,2", "-1", "0-99999999"] {
            assert!(wrong.parse::<Cores>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn threads_of_one_core_stand_together() {
        let root = tempfile::tempdir().unwrap();
        // Processors 0 and 2 are threads of one core, 1 and 3 of the other.
        for (cpu, core, siblings) in [(0, 0, "0,2"), (1, 1, "1,3"), (2, 0, "0,2"), (3, 1, "1,3")] {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            write(root.path(), &format!("{folder}/core_id"), &format!("{core}\n"));
            write(root.path(), &format!("{folder}/physical_package_id"), "0\n");
            write(root.path(), &format!("{folder}/thread_siblings_list"), &format!("{siblings}\n"));
        }
        let all: Cores = (0..4).collect();
        assert_eq!(all.by_core(root.path()), [0, 2, 1, 3]);
        assert_eq!(all.by_core(Path::new("/nowhere")), [0, 1, 2, 3]);
        let set = |cores: &[usize]| cores.iter().copied().collect::<Cores>();
        assert!(set(&[0]).share_a_core_with(&set(&[1, 2]), root.path()));
        assert!(!set(&[0, 2]).share_a_core_with(&set(&[1, 3]), root.path()));
        assert!(!set(&[0]).share_a_core_with(&set(&[1]), Path::new("/nowhere")));
    }

    #[test]
    fn this_process_has_processors() {
        assert!(Cores::allowed().unwrap().count() >= 1);
    }
}
