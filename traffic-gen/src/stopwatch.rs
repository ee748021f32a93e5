//! Which steps of a conversation have ended, and how long they took.
//!
//! Owns the times of one connection. The clock is read once for each read that ends a step, never for a
//! write that the kernel took at once: what is written right after something was read began then. A message
//! that travels in one write and is answered in one read costs the same readings as without a stopwatch.

use smtp::client::Phase;

use crate::phases::Step;

/// The step that ends with the reply for which a session waits in that phase.
const STEPS: [(Phase, Step); 7] = [
    (Phase::Banner, Step::Banner),
    (Phase::Ehlo, Step::Ehlo),
    (Phase::StartTls, Step::Tls),
    (Phase::Auth, Step::Auth),
    (Phase::Mail, Step::Mail),
    (Phase::Rcpt, Step::Rcpt),
    (Phase::Data, Step::Data),
];

/// How the commands of a connection travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// All commands of a message in one write.
    pub(crate) pipelined: bool,
    /// BDAT instead of DATA.
    pub(crate) chunked: bool,
}

/// The times of a connection, `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stopwatch {
    pub(crate) manner: Manner,
    /// When the commands were written that have no reply yet.
    written_ns: u64,
    /// When the end of the body was written.
    body_ns: u64,
    /// The last reading at which something ended.
    read_ns: u64,
}

/// What a read has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A whole message, all of whose steps took that long.
    Together(u64),
    /// Steps one after the other, each with its length.
    Steps([Option<(Step, u64)>; 4]),
}

impl Stopwatch {
    /// The last reading at which something ended.
    pub(crate) fn read_ns(&self) -> u64 {
        self.read_ns
    }

    /// Commands begin to be written now.
    pub(crate) fn written(&mut self, now_ns: u64) {
        self.written_ns = now_ns;
        self.body_ns = now_ns;
    }

    /// The kernel took the end of the body only now, not at once.
    pub(crate) fn body_took_until(&mut self, now_ns: u64) {
        self.body_ns = now_ns;
    }

    /// The session ended in the middle of something.
    pub(crate) fn ended_early(&mut self, now_ns: u64) {
        self.read_ns = now_ns;
    }

    /// Something was read, and the session waits for something else than before.
    pub(crate) fn read(&mut self, before: Phase, after: Phase, now_ns: u64) -> Ended {
        let last = if self.manner.pipelined { self.last_before(before, after) } else { before };
        let since_ns = now_ns.saturating_sub(self.written_ns);
        let since_body_ns = now_ns.saturating_sub(self.body_ns);
        self.read_ns = now_ns;
        // What follows is written at once, unless it stands written already.
        let Manner { pipelined, chunked } = self.manner;
        if !pipelined || matches!(after, Phase::Body | Phase::Idle) || (after == Phase::FinalDot && !chunked)
        {
            self.written(now_ns);
        }
        if before <= Phase::Mail && last == Phase::FinalDot && chunked && since_ns == since_body_ns {
            return Ended::Together(since_ns);
        }
        let ended = |phase: Phase| before <= phase && phase <= last;
        let mut steps = [None; 4];
        let taken = STEPS
            .into_iter()
            .filter(|(phase, _)| ended(*phase) && !(chunked && *phase == Phase::Data))
            .map(|(_, step)| (step, since_ns))
            .chain(ended(Phase::FinalDot).then_some((Step::FinalDot, since_body_ns)))
            .chain(ended(Phase::Quit).then_some((Step::Quit, since_ns)));
        steps.iter_mut().zip(taken).for_each(|(place, step)| *place = Some(step));
        Ended::Steps(steps)
    }

    /// The last phase whose reply has come where several replies may come at once.
    fn last_before(&self, before: Phase, after: Phase) -> Phase {
        match after {
            // Nothing of the message is left; without BDAT that is the reply to a body, or a refusal of one.
            Phase::Idle if before > Phase::Data => before,
            Phase::Idle if before < Phase::Rset => before,
            Phase::Idle if self.manner.chunked => Phase::FinalDot,
            Phase::Idle | Phase::Body | Phase::FinalDot => Phase::Data,
            Phase::Data => Phase::Rcpt,
            Phase::Rcpt => Phase::Mail,
            Phase::Mail => Phase::Rset,
            _ => before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(ended: Ended) -> Vec<(Step, u64)> {
        match ended {
            Ended::Together(ns) => panic!("together {ns}"),
            Ended::Steps(steps) => steps.into_iter().flatten().collect(),
        }
    }

    fn watch(pipelined: bool, chunked: bool) -> Stopwatch {
        let mut watch = Stopwatch { manner: Manner { pipelined, chunked }, ..Stopwatch::default() };
        watch.written(100);
        watch
    }

    #[test]
    fn one_write_and_one_read_are_one_length() {
        let mut watch = watch(true, true);
        assert_eq!(watch.read(Phase::Mail, Phase::Idle, 150), Ended::Together(50));
        assert_eq!(watch.read_ns(), 150);
        // With RSET before it, too; its reply is in the same read.
        watch.written(200);
        assert_eq!(watch.read(Phase::Rset, Phase::Idle, 260), Ended::Together(60));
    }

    #[test]
    fn replies_in_several_reads_end_at_different_times() {
        let mut watch = watch(true, true);
        watch.body_took_until(120);
        assert_eq!(steps(watch.read(Phase::Mail, Phase::Rcpt, 110)), [(Step::Mail, 10)]);
        assert_eq!(steps(watch.read(Phase::Rcpt, Phase::FinalDot, 130)), [(Step::Rcpt, 30)]);
        assert_eq!(steps(watch.read(Phase::FinalDot, Phase::Idle, 200)), [(Step::FinalDot, 80)]);
    }

    #[test]
    fn a_large_body_has_its_final_dot_counted_from_its_end() {
        let mut watch = watch(true, true);
        watch.body_took_until(180);
        let ended = steps(watch.read(Phase::Mail, Phase::Idle, 200));
        assert_eq!(ended, [(Step::Mail, 100), (Step::Rcpt, 100), (Step::FinalDot, 20)]);
    }

    #[test]
    fn data_is_a_step_between_commands_and_body() {
        let mut watch = watch(true, false);
        let ended = steps(watch.read(Phase::Mail, Phase::Body, 150));
        assert_eq!(ended, [(Step::Mail, 50), (Step::Rcpt, 50), (Step::Data, 50)]);
        assert_eq!(steps(watch.read(Phase::FinalDot, Phase::Idle, 180)), [(Step::FinalDot, 30)]);
        // A refused DATA ends the message without a body.
        watch.written(200);
        assert_eq!(steps(watch.read(Phase::Data, Phase::Idle, 210)), [(Step::Data, 10)]);
    }

    #[test]
    fn one_command_at_a_time_ends_one_step_at_a_time() {
        let mut watch = watch(false, false);
        let talk = [
            (Phase::Banner, Phase::Ehlo, Step::Banner),
            (Phase::Ehlo, Phase::Auth, Step::Ehlo),
            (Phase::Auth, Phase::Idle, Step::Auth),
            (Phase::Mail, Phase::Rcpt, Step::Mail),
            (Phase::Rcpt, Phase::Data, Step::Rcpt),
            (Phase::Data, Phase::Body, Step::Data),
            (Phase::FinalDot, Phase::Idle, Step::FinalDot),
            (Phase::Quit, Phase::Idle, Step::Quit),
        ];
        for (at, (before, after, step)) in talk.into_iter().enumerate() {
            assert_eq!(steps(watch.read(before, after, 110 + 10 * at as u64)), [(step, 10)], "{step:?}");
        }
        // A refused MAIL ends everything, and RCPT never was.
        watch.written(300);
        assert_eq!(steps(watch.read(Phase::Mail, Phase::Idle, 310)), [(Step::Mail, 10)]);
    }

    #[test]
    fn before_the_first_message_nothing_travels_together() {
        let mut watch = watch(true, true);
        watch.manner = Manner::default();
        assert_eq!(steps(watch.read(Phase::Banner, Phase::Ehlo, 110)), [(Step::Banner, 10)]);
        watch.manner = Manner { pipelined: true, chunked: true };
        watch.written(200);
        assert_eq!(steps(watch.read(Phase::Quit, Phase::Idle, 230)), [(Step::Quit, 30)]);
    }
}
