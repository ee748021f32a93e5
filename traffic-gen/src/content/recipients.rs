//! Who each message is from and for.
//!
//! Recipients depend on the seed and the sequence number only, never on which connection sends the message
//! or when, so that a run can be repeated with the same addresses. What is drawn from is made before the
//! run. The recipients of one message differ from each other, because the same address twice would look like
//! a doubled message at the far end.

use std::convert::Infallible;
use std::str::FromStr;

use message::traffic::write_decimal;
use rand::rand_core::TryRng;
use rand_distr::{Distribution, Zipf};
use serde::{Deserialize, Serialize};

use super::domains::Domain;
use super::plan::{ContentError, check_header};
use super::weights::Weights;
use crate::parse;

/// Recipients of one message, at most; KumoMTA takes 1,024 and every server must take 100 (RFC 5321 4.5.3.1.8).
pub const RECIPIENTS_MAX: usize = 1_000;

/// Different users at each domain, at most.
pub const USERS_MAX: u64 = 1_000_000_000;

/// Tenants, or campaigns, at most.
pub const GROUPS_MAX: u32 = 1_000_000;

/// The largest exponent; with it nearly all mail is for one user.
pub const ZIPF_MAX: f64 = 10.0;

/// Digits of the number of a user, at least.
const USER_DIGITS_MIN: usize = 6;

/// Digits of any number that stands in an address or a group's name.
const DIGITS_MAX: usize = 10;

/// Who the mail is from and for. Public fields; the default is KumoMTA's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipientPlan {
    /// The domains with their shares; none at all means KumoMTA's four.
    pub domains: Vec<Domain>,
    /// Appended to every domain after a dot; empty appends nothing.
    pub domain_suffix: String,
    /// The address that all mail is from.
    pub sender: String,
    /// Different users at each domain, 1 to [`USERS_MAX`].
    pub users: u64,
    /// How unequal the users are: the one of rank n gets a share of 1 / n^exponent. `None` means alike.
    pub zipf: Option<f64>,
    /// Recipients of each message.
    pub per_message: PerMessage,
    /// Each recipient of a message at a domain of its own choice, instead of all at one.
    pub spread: bool,
    /// Tenants that the messages name.
    pub tenants: Group,
    /// Campaigns that the messages name.
    pub campaigns: Group,
}

impl Default for RecipientPlan {
    fn default() -> Self {
        let group = |header: &str| Group { count: 0, header: header.to_owned() };
        Self {
            domains: Vec::new(),
            domain_suffix: "mx-sink.localhost".to_owned(),
            sender: "sender@mx-sink.localhost".to_owned(),
            users: 1_000_000,
            zipf: None,
            per_message: PerMessage { min: 1, max: 1 },
            spread: false,
            tenants: group("X-Tenant"),
            campaigns: group("X-Campaign"),
        }
    }
}

impl RecipientPlan {
    /// Whether there can be such recipients.
    pub fn check(&self) -> Result<(), ContentError> {
        self.tenants.check()?;
        self.campaigns.check()?;
        let PerMessage { min, max } = self.per_message;
        if min < 1 || min > max || max > RECIPIENTS_MAX {
            return Err(ContentError::Recipients { min, max });
        }
        if self.users < max as u64 || self.users > USERS_MAX {
            return Err(ContentError::Users { users: self.users, recipients: max });
        }
        Ok(())
    }
}

/// A dimension of KumoMTA's queues that a header field carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// How many there are, each with the same share; 0 leaves the field out.
    pub count: u32,
    /// The name of the field.
    pub header: String,
}

impl Group {
    /// Digits of the number of each, so that all have the same width.
    pub(super) fn digits(&self) -> usize {
        digits(u64::from(self.count.saturating_sub(1)))
    }

    /// The number of one of them.
    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> u64 {
        if self.count == 0 { 0 } else { u64::from(random.u32(..self.count)) }
    }

    fn check(&self) -> Result<(), ContentError> {
        if self.count > GROUPS_MAX {
            return Err(ContentError::Groups(self.count));
        }
        check_header(&format!("{}: x", self.header))
    }
}

/// How many recipients a message has; every number between the two, both included, alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerMessage {
    /// At least 1.
    pub min: usize,
    /// At most [`RECIPIENTS_MAX`].
    pub max: usize,
}

impl FromStr for PerMessage {
    type Err = String;

    /// Reads `N` or `MIN:MAX`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once(':').unwrap_or((text, text));
        let number = |text: &str| parse::count(text).ok().and_then(|count| usize::try_from(count).ok());
        match (number(min), number(max)) {
            (Some(min), Some(max)) if min <= max && max <= RECIPIENTS_MAX => Ok(Self { min, max }),
            _ => Err(format!(
                "{text:?} is no number of recipients; write N or MIN:MAX, from 1 to {RECIPIENTS_MAX}"
            )),
        }
    }
}

/// The recipients of one run, as tables.
#[derive(Clone, Debug)]
pub(super) struct Recipients {
    /// Each with its `@` and suffix.
    domains: Vec<String>,
    choice: Weights,
    users: u64,
    user_digits: usize,
    zipf: Option<Zipf<f64>>,
    per_message: PerMessage,
    spread: bool,
}

/// The recipients of one message; filled in again and again.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    all: Vec<String>,
    count: usize,
    /// The numbers of the users, in order.
    users: Vec<u64>,
}

impl Addresses {
    pub(super) fn as_slice(&self) -> &[String] {
        &self.all[..self.count]
    }
}

impl Recipients {
    pub(super) fn new(plan: &RecipientPlan) -> Result<Self, ContentError> {
        plan.check()?;
        let zipf = plan.zipf.map(|exponent| zipf(plan.users, exponent)).transpose()?;
        let domains = if plan.domains.is_empty() { Domain::defaults() } else { plan.domains.clone() };
        let weights: Vec<f64> = domains.iter().map(|domain| domain.weight).collect();
        let at_domain = |domain: &Domain| match plan.domain_suffix.as_str() {
            "" => format!("@{}", domain.name),
            suffix => format!("@{}.{suffix}", domain.name),
        };
        Ok(Self {
            domains: domains.iter().map(at_domain).collect(),
            choice: Weights::new(&weights),
            users: plan.users,
            user_digits: digits(plan.users - 1).max(USER_DIGITS_MIN),
            zipf,
            per_message: plan.per_message,
            spread: plan.spread,
        })
    }

    /// Writes the recipients of a message over `to`.
    pub(super) fn draw(&self, random: &mut fastrand::Rng, to: &mut Addresses) {
        let PerMessage { min, max } = self.per_message;
        let mut domain = self.choice.choose(random.u64(..));
        to.count = if min == max { min } else { random.usize(min..=max) };
        if to.all.len() < to.count {
            to.all.resize_with(to.count, String::new);
        }
        to.users.clear();
        for number in 0..to.count {
            if self.spread && number > 0 {
                domain = self.choice.choose(random.u64(..));
            }
            let mut user = self.user(random);
            if max > 1 {
                user = self.not_yet(user, &mut to.users);
            }
            self.write(user, domain, &mut to.all[number]);
        }
    }

    fn user(&self, random: &mut fastrand::Rng) -> u64 {
        match &self.zipf {
            None => random.u64(..self.users),
            Some(zipf) => rank(zipf.sample(&mut Dice(random))).min(self.users - 1),
        }
    }

    /// The user, or the next one that is not among `users`; it is put there. There are enough users.
    fn not_yet(&self, mut user: u64, users: &mut Vec<u64>) -> u64 {
        let mut at = users.partition_point(|taken| *taken < user);
        while users.get(at) == Some(&user) {
            (user, at) = if user + 1 < self.users { (user + 1, at + 1) } else { (0, 0) };
        }
        users.insert(at, user);
        user
    }

    /// Writes `user000042@domain` over `to`.
    fn write(&self, user: u64, domain: usize, to: &mut String) {
        let mut digits = [b'0'; DIGITS_MAX];
        let digits = &mut digits[..self.user_digits];
        write_decimal(user, digits);
        to.clear();
        to.push_str("user");
        to.extend(digits.iter().map(|digit| char::from(*digit)));
        to.push_str(&self.domains[domain]);
    }
}

fn zipf(users: u64, exponent: f64) -> Result<Zipf<f64>, ContentError> {
    let good = (0.0..=ZIPF_MAX).contains(&exponent);
    let zipf = if good { Zipf::new(users as f64, exponent).ok() } else { None };
    zipf.ok_or_else(|| ContentError::Zipf(exponent.to_string()))
}

/// Digits of a number in decimal.
fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks are whole numbers from 1 to the number of users"
)]
fn rank(drawn: f64) -> u64 {
    (drawn as u64).saturating_sub(1)
}

/// Our random numbers for distributions of `rand_distr`.
struct Dice<'r>(&'r mut fastrand::Rng);

impl TryRng for Dice<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.u32(..))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.u64(..))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(to);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn plan(domains: &[&str], suffix: &str) -> RecipientPlan {
        RecipientPlan {
            domains: domains.iter().map(|text| text.parse().unwrap()).collect(),
            domain_suffix: suffix.to_owned(),
            ..RecipientPlan::default()
        }
    }

    /// The recipients of so many messages.
    fn drawn(plan: &RecipientPlan, messages: usize) -> Vec<Vec<String>> {
        let recipients = Recipients::new(plan).unwrap();
        let (mut random, mut to) = (fastrand::Rng::with_seed(7), Addresses::default());
        let mut draw = || {
            recipients.draw(&mut random, &mut to);
            to.as_slice().to_vec()
        };
        (0..messages).map(|_| draw()).collect()
    }

    fn domain(address: &str) -> &str {
        address.split_once('@').unwrap().1
    }

    #[test]
    fn shares_follow_the_weights() {
        let mut seen = BTreeMap::new();
        for to in drawn(&plan(&["heavy:9", "light"], "test"), 10_000) {
            let (user, domain) = to[0].split_once('@').unwrap();
            assert!(user.len() == 10 && user.starts_with("user"), "{user}");
            *seen.entry(domain.to_owned()).or_insert(0) += 1;
        }
        assert!((8_900..9_100).contains(&seen["heavy.test"]), "{seen:?}");
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn without_domains_it_is_kumomtas_four() {
        let domains = |suffix| Recipients::new(&plan(&[], suffix)).unwrap().domains;
        assert_eq!(domains("mx-sink.localhost")[0], "@aol.com.mx-sink.localhost");
        assert_eq!(domains(""), ["@aol.com", "@gmail.com", "@hotmail.com", "@yahoo.com"]);
    }

    #[test]
    fn popular_users_get_the_share_of_their_rank() {
        let plan = RecipientPlan { users: 1_000, zipf: Some(1.0), ..plan(&["a"], "") };
        let mut seen = BTreeMap::new();
        for to in drawn(&plan, 100_000) {
            *seen.entry(to[0].clone()).or_insert(0) += 1;
        }
        let sum: f64 = (1..=1_000).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1, 2, 3, 10, 100] {
            let expected = 100_000.0 / f64::from(rank) / sum;
            let count = f64::from(seen[&format!("user{:06}@a", rank - 1)]);
            // Five deviations; the seed is fixed.
            assert!((count - expected).abs() < 5.0 * expected.sqrt(), "{rank}: {count} of {expected}");
        }
        assert!(seen.len() > 950, "the unpopular ones get mail too: {}", seen.len());
    }

    #[test]
    fn recipients_of_a_message_are_at_one_domain_unless_spread() {
        let mut plan = plan(&["a", "b", "c"], "");
        plan.per_message = "2:5".parse().unwrap();
        let mut counts = BTreeSet::new();
        for to in drawn(&plan, 300) {
            counts.insert(to.len());
            assert!(to.iter().all(|address| domain(address) == domain(&to[0])), "{to:?}");
        }
        assert_eq!(counts, BTreeSet::from([2, 3, 4, 5]));
        plan.spread = true;
        let mixed = |to: &Vec<String>| to.iter().any(|address| domain(address) != domain(&to[0]));
        assert!(drawn(&plan, 300).iter().filter(|to| mixed(to)).count() > 150);
    }

    #[test]
    fn plans_that_cannot_be_are_refused() {
        let good = RecipientPlan::default();
        let many = PerMessage { min: 1, max: RECIPIENTS_MAX };
        for (plan, word) in [
            (RecipientPlan { users: 999, per_message: many, ..good.clone() }, "999 users"),
            (RecipientPlan { users: USERS_MAX + 1, ..good.clone() }, "users"),
            (RecipientPlan { per_message: PerMessage { min: 0, max: 1 }, ..good.clone() }, "recipients"),
            (RecipientPlan { zipf: Some(f64::NAN), ..good.clone() }, "NaN"),
            (RecipientPlan { zipf: Some(-1.0), ..good.clone() }, "-1"),
            (RecipientPlan { tenants: Group { count: 2, header: "a b".to_owned() }, ..good.clone() }, "a b"),
            (
                RecipientPlan {
                    campaigns: Group { count: GROUPS_MAX + 1, header: "A".to_owned() },
                    ..good.clone()
                },
                "1000001",
            ),
        ] {
            let refused = Recipients::new(&plan).unwrap_err().to_string();
            assert!(refused.contains(word), "{refused}");
        }
        for text in ["", "0", "0:1", "2:1", "1001", "1:2:3", "many"] {
            assert!(text.parse::<PerMessage>().is_err(), "{text}");
        }
        assert_eq!("3".parse(), Ok(PerMessage { min: 3, max: 3 }));
    }

    proptest! {
        #[test]
        fn no_message_names_an_address_twice(
            users in 1u64..60,
            zipf in proptest::option::of(0.0f64..5.0),
            fewer in 0u64..60,
            spread: bool,
        ) {
            let max = usize::try_from(users.saturating_sub(fewer).max(1)).unwrap();
            let per_message = PerMessage { min: max, max };
            let plan = RecipientPlan { users, zipf, per_message, spread, ..plan(&["a", "b"], "") };
            for to in drawn(&plan, 5) {
                prop_assert_eq!(to.iter().collect::<BTreeSet<_>>().len(), max);
            }
        }
    }
}
