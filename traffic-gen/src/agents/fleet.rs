//! The controller: gives each agent its part of a run, watches all of them, and adds up.
//!
//! One thread for each agent asks it for its seconds. An agent that does not answer for [`SILENCE_MAX`] is
//! lost; the others go on. A wish to end the run is passed on to all. Agents begin at one agreed time, by
//! the controller's clock and the offset measured to it just before.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use message::traffic::RunId;
use traffic_gen::{Control, Observer, Plan, Report, Share};

use super::clock::{Offset, realtime_ns};
use super::merge::{Part, Together, Whole};
use super::remote::{Remote, RemoteError};
use super::token::Token;
use super::wire::{Order, VERSION, WireReport, WireSecond};

/// How long an agent may be unreachable before it counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long to wait before an agent that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Between the last agent's order and the first message: time to open the connections.
const START_LEAD: Duration = Duration::from_secs(3);

/// News that wait for the controller; more make the agents' threads wait.
const NEWS_MAX: usize = 1_024;

/// The agents of a run.
pub(crate) struct Fleet {
    agents: Vec<Remote>,
    /// Processors of all of them.
    pub(crate) cores: usize,
}

/// What an agent's thread tells.
enum News {
    Second(Box<WireSecond>),
    Report(Box<WireReport>),
    Lost(String),
}

/// How a run of several machines went.
pub(crate) struct FleetReport {
    pub(crate) report: Report,
    pub(crate) parts: Vec<Part>,
}

impl Fleet {
    /// Looks whether all agents are there, are of our version, and know the token.
    pub(crate) fn join(addresses: &[String], token: &Token) -> Result<Self, String> {
        let agents: Vec<_> = addresses.iter().map(|address| Remote::new(address, token)).collect();
        let mut cores = 0;
        for agent in &agents {
            let clock = agent.ask_clock().map_err(|error| format!("agent {}: {error}", agent.address))?;
            cores += clock.cores;
        }
        Ok(Self { agents, cores })
    }

    /// Where the agents listen.
    pub(crate) fn addresses(&self) -> Vec<&str> {
        self.agents.iter().map(|agent| &agent.address[..]).collect()
    }

    /// Runs the plan on all agents. An error means that nothing was sent.
    pub(crate) fn run(
        &self,
        plan: &Plan,
        control: &Control,
        observer: &mut dyn Observer,
    ) -> Result<FleetReport, String> {
        let clocks = self.order(plan)?;
        let (news, arrives) = sync_channel(NEWS_MAX);
        let parts = thread::scope(|scope| {
            for (index, agent) in self.agents.iter().enumerate() {
                let news = news.clone();
                scope.spawn(move || follow(agent, plan.run_id, index, control, &news));
            }
            drop(news);
            Watch::new(self.agents.len()).watch(&arrives, observer)
        });
        Ok(self.add_up(plan, &clocks, parts))
    }

    /// Gives out the parts. Where one agent refuses, those that have theirs are told to stop.
    fn order(&self, plan: &Plan) -> Result<Vec<Offset>, String> {
        let of = self.agents.len();
        let said = |agent: &Remote, error: RemoteError| format!("agent {}: {error}", agent.address);
        let clocks: Vec<Offset> = self
            .agents
            .iter()
            .map(|agent| agent.clock().map_err(|error| said(agent, error)))
            .collect::<Result<_, _>>()?;
        let lead_ns = u64::try_from(START_LEAD.as_nanos()).unwrap_or(u64::MAX);
        let start_ns = realtime_ns().saturating_add(lead_ns);
        for (index, (agent, clock)) in self.agents.iter().zip(&clocks).enumerate() {
            let part = Plan {
                concurrency: ((plan.concurrency_asked.max(plan.concurrency) + index) / of).max(1),
                share: Share { index: index as u64, of: of as u64 },
                start_at_realtime_ns: Some(start_ns),
                clock_offset_ns: -clock.offset_ns,
                ..plan.clone()
            };
            let order = Order { version: VERSION.to_owned(), plan: part };
            if let Err(error) = agent.order(&order) {
                for other in &self.agents[..index] {
                    // Twice: nothing is worth waiting for. Who cannot be told ends it by himself.
                    let _ = other.stop(plan.run_id).and_then(|()| other.stop(plan.run_id));
                }
                return Err(said(agent, error));
            }
        }
        Ok(clocks)
    }

    fn add_up(&self, plan: &Plan, clocks: &[Offset], followed: Vec<Followed>) -> FleetReport {
        let mut whole = Whole::new(plan, nothing(plan));
        let mut parts = Vec::with_capacity(self.agents.len());
        for ((agent, clock), followed) in self.agents.iter().zip(clocks).zip(followed) {
            let mut part = Part { address: agent.address.clone(), clock: *clock, ..Part::default() };
            let added = match followed.end {
                Some(Ok(report)) => {
                    let counts = &report.report;
                    (part.sent, part.failed) = (counts.sent, counts.failed);
                    (part.partial, part.unknown) = (counts.partial, counts.unknown);
                    whole.add(&part, *report)
                }
                Some(Err(why)) => Err(why),
                None => Err("its thread ended early".to_owned()),
            };
            if let Err(why) = added {
                let begun = followed.last.map_or(0, |second| second.begun());
                part = Part { sent: 0, failed: 0, partial: 0, unknown: begun, ..part };
                whole.lose(&part, &why);
                part.lost = Some(why);
            }
            parts.push(part);
        }
        FleetReport { report: whole.finish(), parts }
    }
}

/// The report of a run that nobody began.
pub(crate) fn nothing(plan: &Plan) -> Report {
    let target = plan.targets.iter().map(|target| &target.name[..]).collect::<Vec<_>>().join(",");
    let nobody = Plan { targets: Vec::new(), ..plan.clone() };
    Report { target, ..traffic_gen::run(nobody) }
}

/// Asks one agent until it is through or lost.
fn follow(agent: &Remote, run: RunId, index: usize, control: &Control, news: &SyncSender<(usize, News)>) {
    let (mut seen, mut stops, mut heard) = (0, 0, Instant::now());
    // Sending fails only where the controller is gone, and then nobody wants to know.
    let tell = |what| drop(news.send((index, what)));
    loop {
        let step = ask(agent, run, &mut seen, &mut stops, control, &tell);
        match step {
            Ok(true) => return,
            Ok(false) => heard = Instant::now(),
            Err(RemoteError::Refused(why)) => return tell(News::Lost(why)),
            Err(RemoteError::Unreachable(why)) if heard.elapsed() > SILENCE_MAX => {
                return tell(News::Lost(why));
            }
            Err(RemoteError::Unreachable(_)) => thread::park_timeout(PAUSE),
        }
    }
}

/// One round of questions. True when the report is there.
fn ask(
    agent: &Remote,
    run: RunId,
    seen: &mut usize,
    stops: &mut u8,
    control: &Control,
    tell: &impl Fn(News),
) -> Result<bool, RemoteError> {
    while *stops < control.stops() {
        agent.stop(run)?;
        *stops += 1;
    }
    let answer = agent.seconds(run, *seen)?;
    for second in answer.seconds {
        *seen += 1;
        tell(News::Second(Box::new(second)));
    }
    if answer.over {
        tell(News::Report(Box::new(agent.report(run)?)));
    }
    Ok(answer.over)
}

/// What is known of one agent.
#[derive(Default)]
struct Followed {
    /// Seconds that were not shown yet.
    waiting: VecDeque<WireSecond>,
    /// The last one that was.
    last: Option<WireSecond>,
    end: Option<Result<Box<WireReport>, String>>,
}

/// Shows the seconds of all agents together as soon as all have said theirs.
struct Watch {
    agents: Vec<Followed>,
}

impl Watch {
    fn new(agents: usize) -> Self {
        Self { agents: (0..agents).map(|_| Followed::default()).collect() }
    }

    fn watch(mut self, arrives: &Receiver<(usize, News)>, observer: &mut dyn Observer) -> Vec<Followed> {
        // Ends when all threads have ended.
        for (index, news) in arrives {
            let agent = &mut self.agents[index];
            match news {
                News::Second(second) => agent.waiting.push_back(*second),
                News::Report(report) => agent.end = Some(Ok(report)),
                News::Lost(why) => agent.end = Some(Err(why)),
            }
            while self.is_complete() {
                self.show(observer);
            }
        }
        while self.agents.iter().any(|agent| !agent.waiting.is_empty()) {
            self.show(observer);
        }
        self.agents
    }

    /// Whether each agent has said its next second or will say none.
    fn is_complete(&self) -> bool {
        let said = |agent: &Followed| !agent.waiting.is_empty() || agent.end.is_some();
        self.agents.iter().all(said) && self.agents.iter().any(|agent| !agent.waiting.is_empty())
    }

    fn show(&mut self, observer: &mut dyn Observer) {
        let mut fresh = Vec::with_capacity(self.agents.len());
        for agent in &mut self.agents {
            let next = agent.waiting.pop_front();
            fresh.push(next.is_some());
            agent.last = next.or_else(|| agent.last.take());
        }
        let seconds = self.agents.iter().zip(&fresh);
        let seconds = seconds.filter_map(|(agent, fresh)| agent.last.as_ref().map(|last| (last, *fresh)));
        // A second that does not parse is left out of the picture; the report has the last word.
        if let Ok(together) = Together::of(seconds) {
            together.second().iter().for_each(|second| observer.second(second));
        }
    }
}
