//! What a suite does around its rounds: it looks at the machine before them, and counts calls after them.
//!
//! It owns these two parts of a laboratory's work. Both are left out of the rounds, because they would disturb them; whatever
//! fails here is a remark and leaves a number unknown.

use std::path::Path;

use reports::run::{Kind, counter};

use super::{Lab, Rounds, Suite};
use crate::calls::{Counted, Counting, Method};
use crate::error::Result;
use crate::size::size_label;
use crate::survey;
use crate::traffic::{self, Servers};

impl Lab<'_> {
    /// Tries disk and loopback, and finds the ceiling if that is wanted. What fails is a remark.
    pub(super) fn survey(&mut self) {
        self.record.software.config_hash = Some(survey::config_hash(self.options.durability));
        let (trial, probe) = self.timing.survey();
        self.progress.remark("looking at the disk and the loopback");
        let remarks = survey::trials(&mut self.record.machine, self.folder, trial);
        remarks.into_iter().for_each(|remark| self.remark(remark));
        if !self.options.ceiling && self.options.suite != Suite::Full {
            return;
        }
        self.progress.remark("looking for the ceiling of this machine");
        let progress = &self.progress;
        let mut told = |_: f64, what: &str| progress.detail(what);
        match survey::ceilings(self.folder, &self.options.body_bytes, probe, &mut told) {
            Ok(ceilings) => self.record.machine.ceilings = ceilings,
            Err(error) => self.remark(format!("The ceiling is unknown: {error}.")),
        }
    }

    /// One more pass through kumod for each thing that is to be counted, as long as the warm-up; a pass that lost mail is kept as a
    /// round.
    pub(super) fn count_calls(
        &mut self,
        body_bytes: u64,
        servers: &mut Servers,
        rounds: &mut Rounds,
    ) -> Result<()> {
        let wanted = [
            (self.options.count_syscalls, counter::SYSCALLS),
            (self.options.count_allocations, counter::ALLOCATIONS),
        ];
        for (_, name) in wanted.into_iter().filter(|(is_wanted, _)| *is_wanted) {
            self.count_pass(name, body_bytes, servers, rounds)?;
        }
        Ok(())
    }

    fn count_pass(
        &mut self,
        name: &'static str,
        body_bytes: u64,
        servers: &mut Servers,
        rounds: &mut Rounds,
    ) -> Result<()> {
        let label = size_label(body_bytes);
        let step = self.step_name(&format!("{label}: count {name}"));
        self.progress.step(step);
        let job = self.job(Kind::Kumod, body_bytes, format!("{name}-{label}"), self.timing.warm_up);
        let answer = self.folder.join(self.placement.named(&format!("{name}-{label}.txt")));
        let (method, counting) = match begin(name, servers.kumod.id(), &answer) {
            Ok(counting) => counting,
            Err(reason) => {
                self.remark(format!("The {name} at {label} were not counted: {reason}."));
                return Ok(());
            }
        };
        let run = traffic::measure(&self.surroundings(), &job, servers, &self.progress)?;
        match counting.finish() {
            Ok(calls) => rounds.counted.push(Counted { name, method, calls, delivered: run.delivered }),
            Err(reason) => self.remark(format!("The {name} at {label} were not counted: {reason}.")),
        }
        if run.lost + run.corrupted > 0 {
            rounds.runs.push(run);
        }
        Ok(())
    }
}

fn begin(name: &str, process: u32, answer: &Path) -> std::result::Result<(Method, Counting), String> {
    if name == counter::ALLOCATIONS {
        return Ok((Method::Perf, Counting::start_allocations(process, answer)?));
    }
    let method = Method::find()?;
    Ok((method, Counting::start(method, process, answer)?))
}
