//! Draws a scenario of a kind: its conditions with parameters that no rule has seen, the request, and what
//! is true of it.

use fastrand::Rng;
use softoff_harness::outcome::{Cause, OutcomeKind};
use softoff_harness::scenario::Scenario;

use super::words;

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    UpdateEnds,
    UpdateExceedsDeadline,
    EventTracker,
    EventTrackerAnswered,
    LogonRequired,
    ApplicationRefuses,
    ApplicationHangs,
    ApplicationHangsAndIsEnded,
    Service,
    ButtonNothing,
    ButtonSleep,
    ButtonHibernate,
    ButtonDisplayOff,
    AsleepPressOnly,
    AsleepWakePress,
    Hibernated,
    DisplayAsleep,
    BlockingService,
    DamagedSystem,
    EarlyRequest,
    Healthy,
    LoggedOn,
    LogonNotRequired,
    ApplicationAnswers,
    ApplicationSlow,
    /// An obedient application whose window quotes what Windows shows when something holds a shutdown.
    ApplicationQuotes,
    ServiceStops,
    DisplayWoken,
    AbortLoop,
    /// Two causes; each of the three draws from combinations of its own.
    Combined(usize),
}

/// How many of [`Kind::Combined`] there are.
pub(crate) const COMBINED: usize = 3;

/// What a diagnosis is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Truth {
    /// What becomes of the machine; another outcome means that the scenario was not the one meant.
    pub(crate) outcome: OutcomeKind,
    /// What is wrong in the guest, and had its turn; empty for a control. One of these must be named.
    pub(crate) acted: Vec<Cause>,
    /// What is wrong as well, behind those: may be named beside them.
    pub(crate) waiting: Vec<Cause>,
}

/// A scenario with its truth.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) scenario: Scenario,
    /// What was drawn, in one line.
    pub(crate) brief: String,
    pub(crate) truth: Truth,
}

/// One condition: what the definition says of it, and the cause.
struct Part {
    toml: String,
    cause: Cause,
}

/// A scenario in the making.
struct Plan {
    parts: Vec<Part>,
    /// Lines of `[request]`.
    request: String,
    outcome: OutcomeKind,
    /// How many of `parts`, from the first, have their turn.
    turns: usize,
    /// What is wrong with the moment of the request, if anything.
    moment: Option<Cause>,
}

/// Draws one of this kind.
pub(crate) fn draw(kind: Kind, rng: &mut Rng) -> Drawn {
    plan(kind, rng).finish(rng)
}

fn plan(kind: Kind, rng: &mut Rng) -> Plan {
    use OutcomeKind::{Hibernated, PoweredOff, StillRunning, Suspended};
    let single =
        |part, request, outcome| Plan { parts: vec![part], request, outcome, turns: 1, moment: None };
    let control = |parts, rng: &mut Rng| {
        let request = patient(rng);
        Plan { parts, request, outcome: PoweredOff, turns: 0, moment: None }
    };
    match kind {
        Kind::UpdateEnds => single(update(rng, 3, 9), patient(rng), PoweredOff),
        Kind::UpdateExceedsDeadline => single(update(rng, 60, 900), short(rng), StillRunning),
        Kind::EventTracker => single(tracker(), short(rng), StillRunning),
        Kind::EventTrackerAnswered => single(tracker(), answered(rng), PoweredOff),
        Kind::LogonRequired => single(logon(false, false), short(rng), StillRunning),
        Kind::ApplicationRefuses => single(application(rng, "refuses", ""), short(rng), StillRunning),
        Kind::ApplicationHangs => single(application(rng, "hangs", ""), short(rng), StillRunning),
        Kind::ApplicationHangsAndIsEnded => {
            single(application(rng, "hangs", "auto_end_tasks = true"), patient(rng), PoweredOff)
        }
        Kind::Service => single(service(rng), short(rng), StillRunning),
        Kind::ButtonNothing => single(button("nothing"), short(rng), StillRunning),
        Kind::ButtonSleep => single(button("sleep"), short(rng), Suspended),
        Kind::ButtonHibernate => single(button("hibernate"), patient(rng), Hibernated),
        Kind::ButtonDisplayOff => single(button("display-off"), short(rng), StillRunning),
        Kind::AsleepPressOnly => single(asleep("s3"), short(rng), Suspended),
        Kind::AsleepWakePress => single(asleep("s3"), woken(rng), PoweredOff),
        Kind::Hibernated => single(asleep("s4"), short(rng), Hibernated),
        Kind::DisplayAsleep => single(asleep("display"), twice(rng), PoweredOff),
        Kind::BlockingService => single(squatter(rng), short(rng), StillRunning),
        Kind::DamagedSystem => single(damaged(), short(rng), StillRunning),
        Kind::EarlyRequest => Plan {
            parts: Vec::new(),
            request: format!("at = \"power-on\"\ndeadline = \"{}s\"\n", rng.u32(25..=40)),
            outcome: StillRunning,
            turns: 0,
            moment: Some(Cause::EarlyRequest),
        },
        Kind::Healthy => control(Vec::new(), rng),
        Kind::LoggedOn => control(vec![logon(true, rng.bool())], rng),
        Kind::LogonNotRequired => control(vec![logon(false, true)], rng),
        Kind::ApplicationAnswers => control(vec![application(rng, "answers", "")], rng),
        Kind::ApplicationSlow => {
            let seconds = format!("seconds = {}", rng.u32(1..=6));
            control(vec![application(rng, "slow", &seconds)], rng)
        }
        Kind::ApplicationQuotes => control(vec![quoting(rng)], rng),
        Kind::ServiceStops => control(vec![service_of(rng, 1, 4)], rng),
        Kind::DisplayWoken => {
            let key = *rng.choice(&["shift", "ctrl", "alt"]).expect("a key");
            let request = format!("wake_key = \"{key}\"\ngap = \"{}ms\"\n", rng.u32(1_500..=3_500));
            Plan { request: request + &patient(rng), ..control(vec![asleep("display")], rng) }
        }
        Kind::AbortLoop => control(vec![malware("abort-loop", "")], rng),
        Kind::Combined(number) => combined(number, rng),
    }
}

/// Two causes. The first acts first; whether the second has its turn stands beside each.
fn combined(number: usize, rng: &mut Rng) -> Plan {
    use OutcomeKind::{StillRunning, Suspended};
    type Make = fn(&mut Rng) -> Plan;
    let all: [Make; 18] = [
        |r| two([button("nothing"), application(r, "hangs", "")], short(r), StillRunning, 1),
        |r| two([tracker(), application(r, "refuses", "")], answered(r), StillRunning, 2),
        |r| two([update(r, 3, 8), service(r)], short(r), StillRunning, 2),
        |r| two([button("display-off"), tracker()], short(r), StillRunning, 1),
        |r| two([logon(false, false), update(r, 60, 900)], short(r), StillRunning, 1),
        |r| two([application(r, "hangs", ""), update(r, 60, 900)], short(r), StillRunning, 1),
        |r| two([tracker(), service(r)], answered(r), StillRunning, 2),
        |r| two([application(r, "refuses", ""), squatter(r)], short(r), StillRunning, 1),
        |r| two([update(r, 60, 900), squatter(r)], short(r), StillRunning, 2),
        |r| two([asleep("s3"), button("nothing")], short(r), Suspended, 1),
        |r| two([asleep("s3"), tracker()], woken(r), StillRunning, 2),
        |r| two([asleep("display"), application(r, "hangs", "")], twice(r), StillRunning, 2),
        |r| two([logon(false, false), squatter(r)], short(r), StillRunning, 1),
        |r| two([damaged(), service(r)], short(r), StillRunning, 1),
        |r| two([button("sleep"), application(r, "refuses", "")], short(r), Suspended, 1),
        |r| two([asleep("display"), tracker()], twice(r), StillRunning, 2),
        |r| two([tracker(), squatter(r)], answered(r), StillRunning, 2),
        |r| two([button("nothing"), logon(false, false)], short(r), StillRunning, 2),
    ];
    let own: Vec<Make> = all.into_iter().skip(number).step_by(COMBINED).collect();
    let make = rng.choice(own).expect("a combination");
    make(rng)
}

fn two(parts: [Part; 2], request: String, outcome: OutcomeKind, turns: usize) -> Plan {
    Plan { parts: parts.into(), request, outcome, turns, moment: None }
}

impl Plan {
    fn finish(mut self, rng: &mut Rng) -> Drawn {
        let causes: Vec<Cause> = self.parts.iter().map(|part| part.cause).collect();
        let (acted, waiting) = causes.split_at(self.turns);
        let acted: Vec<Cause> = acted.iter().copied().chain(self.moment).collect();
        // Nothing waits behind what stops nothing.
        let waiting = if self.turns > 0 { waiting.to_vec() } else { Vec::new() };
        rng.shuffle(&mut self.parts);
        let conditions: String = self.parts.iter().map(|part| part.toml.as_str()).collect();
        let brief = format!("{conditions}{}", self.request);
        let brief = brief.replace("[[condition]]", "+").replace("[[request.then]]", "then");
        let (outcome, last) = match self.outcome {
            OutcomeKind::PoweredOff => (self.outcome, "powered-off"),
            outcome => (outcome, "request"),
        };
        let toml = format!(
            "summary = \"Drawn\"\nimages = [\"reference\"]\n{conditions}\n[readiness]\nwithin = \"4m\"\n\
             [request]\nby = \"acpi-button\"\n{}\n\
             [expect]\noutcome = \"{outcome}\"\nlast_phase = \"{last}\"\ncause = \"unknown\"\n",
            self.request
        );
        let scenario = Scenario::parse(&toml, "drawn.toml".as_ref(), "drawn".into());
        Drawn {
            scenario: scenario.unwrap_or_else(|e| panic!("{e}\n{toml}")),
            brief: brief.split_whitespace().collect::<Vec<_>>().join(" "),
            truth: Truth { outcome, acted, waiting },
        }
    }
}

fn part(kind: &str, lines: &str, cause: Cause) -> Part {
    Part { toml: format!("[[condition]]\nkind = \"{kind}\"\n{lines}\n"), cause }
}

fn update(rng: &mut Rng, least: u32, most: u32) -> Part {
    let lines = format!("seconds = {}\nservice = \"{}\"", rng.u32(least..=most), words::service(rng));
    part("windows-update", &lines, Cause::WindowsUpdate)
}

fn tracker() -> Part {
    part("shutdown-event-tracker", "", Cause::ShutdownEventTracker)
}

fn logon(logged_on: bool, allowed: bool) -> Part {
    let lines = format!("logged_on = {logged_on}\nallowed = {allowed}");
    part("logon-required", &lines, Cause::LogonRequired)
}

fn application(rng: &mut Rng, behaviour: &str, more: &str) -> Part {
    let (title, text) = (words::title(rng), words::title(rng));
    let lines = format!("behaviour = \"{behaviour}\"\ntitle = \"{title}\"\ntext = \"{text}\"\n{more}");
    part("unresponsive-application", &lines, Cause::UnresponsiveApplication)
}

fn quoting(rng: &mut Rng) -> Part {
    let quotes = [
        "How to disable the Shutdown Event Tracker",
        "Working on updates: what it means",
        "An app is preventing shutdown?",
    ];
    let text = *rng.choice(&quotes).expect("a quote");
    let lines = format!("behaviour = \"answers\"\ntitle = \"{}\"\ntext = \"{text}\"", words::title(rng));
    part("unresponsive-application", &lines, Cause::UnresponsiveApplication)
}

/// A service that outlasts every deadline here, within less than the day that calls for another name. The
/// magnitude is drawn first: minutes are as likely as hours.
fn service(rng: &mut Rng) -> Part {
    let most = *rng.choice(&[120, 1_200, 12_000, 80_000]).expect("a magnitude");
    service_of(rng, 60, most)
}

fn service_of(rng: &mut Rng, least: u32, most: u32) -> Part {
    let lines = format!("service = \"{}\"\nseconds = {}", words::service(rng), rng.u32(least..=most));
    part("unresponsive-service", &lines, Cause::UnresponsiveApplication)
}

fn button(action: &str) -> Part {
    part("power-button-policy", &format!("action = \"{action}\""), Cause::PowerButtonPolicy)
}

fn asleep(state: &str) -> Part {
    part("asleep", &format!("state = \"{state}\""), Cause::Asleep)
}

fn malware(technique: &str, more: &str) -> Part {
    part("malware", &format!("technique = \"{technique}\"\n{more}"), Cause::Malware)
}

fn squatter(rng: &mut Rng) -> Part {
    malware("blocking-service", &format!("service = \"{}\"", words::service(rng)))
}

fn damaged() -> Part {
    malware("damaged-system", "")
}

/// One press, and a deadline for a guest that will stay as it is.
fn short(rng: &mut Rng) -> String {
    format!("deadline = \"{}ms\"\n", rng.u32(20_000..=30_000))
}

/// One press, and a deadline for a guest that will go down.
fn patient(rng: &mut Rng) -> String {
    format!("deadline = \"{}ms\"\n", rng.u32(90_000..=120_000))
}

/// Two presses: the second comes before the display, lit by the first, goes dark again.
fn twice(rng: &mut Rng) -> String {
    format!("presses = 2\ngap = \"{}ms\"\n{}", rng.u32(1_500..=3_500), deadline_after_acts(rng))
}

fn woken(rng: &mut Rng) -> String {
    let (wake, press) = (rng.u32(3_000..=8_000), rng.u32(8_000..=14_000));
    format!("{}{}{}", deadline_after_acts(rng), then(wake, "wake", ""), then(press, "press", ""))
}

/// A person answers the dialog after a while.
fn answered(rng: &mut Rng) -> String {
    let answer = then(rng.u32(6_000..=14_000), "keys", "keys = [\"ret\"]\n");
    format!("{}{answer}", deadline_after_acts(rng))
}

fn then(after_ms: u32, act: &str, more: &str) -> String {
    format!("[[request.then]]\nafter = \"{after_ms}ms\"\ndo = \"{act}\"\n{more}")
}

fn deadline_after_acts(rng: &mut Rng) -> String {
    format!("deadline = \"{}ms\"\n", rng.u32(45_000..=60_000))
}
