use rstest::rstest;
use serde_json::{Value, json};
use softoff_guest_protocol::probe::{ProbeLine, VERSION};

use super::*;

fn qmp(name: &str, data: Value) -> Seen {
    Seen::QmpEvent { name: name.into(), data }
}

fn probe(event: ProbeEvent) -> Seen {
    Seen::Probe(ProbeLine { softoff: VERSION, src: "session".into(), pid: 1, seq: 1, up_ms: 0, event })
}

fn off() -> Seen {
    qmp("SHUTDOWN", json!({"guest": true, "reason": "guest-shutdown"}))
}

fn asked(by: &str) -> Seen {
    Seen::Requested { by: by.into(), number: 1 }
}

fn ending(by: &str) -> Seen {
    probe(ProbeEvent::SessionEnding { by: by.into() })
}

/// One observation every 100 ms.
fn timeline(seen: Vec<Seen>) -> Vec<Observation> {
    let source = |what: &Seen| match what {
        Seen::Probe(_) => Source::Probe,
        Seen::QmpEvent { .. } => Source::Qmp,
        _ => Source::Host,
    };
    let stamped = seen.into_iter().enumerate();
    stamped.map(|(n, what)| Observation { at_us: n as u64 * 100_000, source: source(&what), what }).collect()
}

#[rstest]
#[case::obeyed(vec![asked("x"), off()], "powered-off")]
#[case::hibernated_looks_like_off(vec![asked("x"), qmp("SUSPEND_DISK", json!(null)), off()], "hibernated")]
#[case::reset(vec![asked("x"), qmp("RESET", json!({"guest": true, "reason": "guest-reset"}))], "rebooted")]
#[case::reset_under_no_reboot(vec![asked("x"), qmp("SHUTDOWN", json!({"guest": true, "reason": "guest-reset"}))], "rebooted")]
#[case::reset_while_booting(vec![qmp("RESET", json!({"guest": true})), asked("x"), off()], "powered-off")]
#[case::reset_from_outside(vec![asked("x"), qmp("RESET", json!({"guest": false})), off()], "host-failed")]
#[case::reset_from_outside_while_booting(vec![qmp("RESET", json!({"guest": false})), asked("x"), off()], "powered-off")]
#[case::panic_read_after_the_end(vec![asked("x"), off(), Seen::ConsolePanic { line: "Kernel panic".into() }], "crashed")]
#[case::panic_read_after_the_reset(vec![asked("x"), qmp("RESET", json!({"guest": true})), qmp("GUEST_PANICKED", json!({}))], "crashed")]
#[case::host_failed_before_a_panic(
    vec![asked("x"), Seen::ProcessExited { code: None, signal: Some(11) }, Seen::ConsolePanic { line: "Kernel panic".into() }],
    "host-failed"
)]
#[case::damaged_overlay(vec![asked("x"), qmp("BLOCK_IMAGE_CORRUPTED", json!({"msg": "L2", "fatal": true})), off()], "host-failed")]
#[case::panic_then_off(vec![asked("x"), qmp("GUEST_PANICKED", json!({})), off()], "crashed")]
#[case::crash_dump(vec![asked("x"), qmp("GUEST_CRASHLOADED", json!({})), off()], "crashed")]
#[case::panic_reason(vec![asked("x"), qmp("SHUTDOWN", json!({"guest": true, "reason": "guest-panic"}))], "crashed")]
#[case::panic_on_console(vec![asked("x"), Seen::ConsolePanic { line: "Kernel panic".into() }, off()], "crashed")]
#[case::not_the_guest(vec![asked("x"), qmp("SHUTDOWN", json!({"guest": false, "reason": "host-signal"}))], "host-failed")]
#[case::guest_flag_missing(vec![asked("x"), qmp("SHUTDOWN", json!({"reason": "guest-shutdown"}))], "host-failed")]
#[case::newer_reason(vec![asked("x"), qmp("SHUTDOWN", json!({"guest": true, "reason": "solar-flare"}))], "host-failed")]
#[case::qemu_died(vec![asked("x"), Seen::ProcessExited { code: None, signal: Some(11) }], "host-failed")]
#[case::killed_by_another(vec![asked("x"), Seen::ProcessExited { code: None, signal: Some(9) }], "host-failed")]
#[case::plug_pulled(vec![asked(PLUG), Seen::ProcessExited { code: None, signal: Some(9) }], "host-killed")]
#[case::plug_pulled_and_another_signal(vec![asked(PLUG), qmp("SHUTDOWN", json!({"guest": false, "reason": "host-signal"}))], "host-failed")]
#[case::plug_pulled_and_nobody_knows(vec![asked(PLUG), Seen::ProcessExited { code: None, signal: None }], "host-failed")]
#[case::told_to_quit(vec![asked(QUIT), qmp("SHUTDOWN", json!({"guest": false, "reason": "host-qmp-quit"}))], "host-killed")]
#[case::told_to_quit_and_failed(vec![asked(QUIT), qmp("SHUTDOWN", json!({"guest": false, "reason": "host-error"}))], "host-failed")]
#[case::told_to_quit_and_was_down_already(vec![asked(QUIT), off()], "powered-off")]
#[case::told_to_quit_with_a_code(vec![asked(QUIT), Seen::ProcessExited { code: Some(1), signal: None }], "host-failed")]
#[case::destroyed_and_nobody_knows(vec![asked(DESTROY), Seen::ProcessExited { code: None, signal: None }], "host-killed")]
#[case::destroyed_the_hard_way(vec![asked(DESTROY_GRACEFUL), Seen::ProcessExited { code: None, signal: Some(9) }], "host-killed")]
#[case::hypervisor_gone(vec![asked("x"), Seen::HypervisorGone { what: "libvirtd".into() }, off()], "host-failed")]
#[case::plug_pulled_too_late(vec![asked(PLUG), off(), Seen::ProcessExited { code: None, signal: Some(9) }], "powered-off")]
#[case::disk_full(vec![asked("x"), qmp("BLOCK_IO_ERROR", json!({"action": "stop", "reason": "No space left"}))], "host-failed")]
#[case::disk_error_that_the_guest_is_told(vec![asked("x"), qmp("BLOCK_IO_ERROR", json!({"action": "report"})), off()], "powered-off")]
#[case::asleep(vec![asked("x"), qmp("SUSPEND", json!(null))], "suspended")]
#[case::asleep_and_pressed(vec![asked("x"), qmp("SUSPEND", json!(null)), qmp("POWERDOWN", json!(null))], "suspended")]
#[case::pressed(vec![asked("x"), qmp("POWERDOWN", json!(null))], "still-running")]
#[case::woken(vec![asked("x"), qmp("SUSPEND", json!(null)), qmp("WAKEUP", json!(null))], "still-running")]
#[case::claims_only(vec![asked("x"), probe(ProbeEvent::PoweringOff)], "still-running")]
#[case::nothing(vec![asked("x")], "still-running")]
#[case::second_boot(
    vec![
        Seen::MachineStarted { pid: 1 },
        Seen::ConsolePanic { line: "early".into() },
        Seen::ProcessExited { code: Some(0), signal: None },
        Seen::MachineStarted { pid: 2 },
        asked("x"),
        off(),
    ],
    "powered-off"
)]
fn outcomes_follow_from_events(#[case] seen: Vec<Seen>, #[case] outcome: &str) {
    assert_eq!(at_deadline(&timeline(seen)).kind().to_string(), outcome);
}

#[rstest]
#[case::signal(vec![Seen::ProcessExited { code: None, signal: Some(11) }], "QEMU was killed by signal 11")]
#[case::code(vec![Seen::ProcessExited { code: Some(3), signal: None }], "QEMU ended with exit code 3")]
#[case::untold(vec![Seen::ProcessExited { code: None, signal: None }], "QEMU ended")]
#[case::kernel(vec![Seen::ConsolePanic { line: "Kernel panic - x".into() }], "Kernel panic - x")]
#[case::event(vec![qmp("GUEST_PANICKED", json!({}))], "QMP GUEST_PANICKED")]
fn a_failure_says_what_was_seen(#[case] seen: Vec<Seen>, #[case] said: &str) {
    let told = match at_deadline(&timeline(seen)) {
        Outcome::HostFailed { what } => what,
        Outcome::Crashed { evidence } => evidence,
        other => panic!("{other:?}"),
    };
    assert_eq!(told, said);
}

#[tokio::test]
async fn the_wait_ends_with_the_machine_and_not_before() {
    let timeline = Timeline::start();
    timeline.add(Source::Host, asked("x"));
    let waits = tokio::time::timeout(Duration::from_millis(50), until_settled(&timeline));
    assert!(waits.await.is_err());
    timeline.add(Source::Qmp, off());
    assert_eq!(until_settled(&timeline).await, Outcome::PoweredOff);
}

#[rstest]
#[case::runs(Ok("running"), "still-running")]
#[case::sleeps(Ok("suspended"), "suspended")]
#[case::stopped_by_the_host(Ok("paused"), "host-failed")]
#[case::went_without_a_word(Ok("shutdown"), "host-failed")]
#[case::no_answer(Err("x".to_owned()), "host-failed")]
fn that_it_runs_is_asked_not_concluded(#[case] state: Result<&str, String>, #[case] outcome: &str) {
    let observations = timeline(vec![asked("x")]);
    assert_eq!(by_run_state(&observations, state.clone()).kind().to_string(), outcome);
    // What was seen counts more than any answer.
    let ended = timeline(vec![asked("x"), off()]);
    assert_eq!(by_run_state(&ended, state), Outcome::PoweredOff);
}

#[test]
fn phases_have_times_from_the_request_and_sources() {
    let seen = vec![
        probe(ProbeEvent::Booted),
        asked("x"),
        ending("button"),
        probe(ProbeEvent::SessionEnded),
        // A phase is not reached a second time.
        ending("button"),
        off(),
    ];
    let reached = phases(&timeline(seen));
    let shown: Vec<_> = reached.iter().map(|r| (r.phase, r.after.as_millis(), r.source)).collect();
    assert_eq!(
        shown,
        [
            (Phase::Request, 0, Source::Host),
            (Phase::Reacted, 100, Source::Probe),
            (Phase::SessionEnded, 200, Source::Probe),
            (Phase::PoweredOff, 400, Source::Qmp),
        ]
    );
}

#[test]
fn hibernating_is_no_phase_of_powering_off() {
    let seen = vec![asked("x"), qmp("SUSPEND_DISK", json!(null)), off()];
    let reached = phases(&timeline(seen));
    assert_eq!(reached.iter().map(|r| r.phase).collect::<Vec<_>>(), [Phase::Request]);
}

#[test]
fn a_second_request_is_no_phase_and_a_restart_no_power_off() {
    let restart = qmp("SHUTDOWN", json!({"guest": true, "reason": "guest-reset"}));
    let reached = phases(&timeline(vec![asked("x"), asked("x"), restart]));
    assert_eq!(reached.iter().map(|r| r.phase).collect::<Vec<_>>(), [Phase::Request]);
}

#[test]
fn without_a_request_there_are_no_phases() {
    assert_eq!(phases(&timeline(vec![ending("button"), off()])), []);
}

#[rstest]
#[case::taken(vec![asked("system_powerdown"), Seen::PressTaken, off()], true)]
#[case::reported(vec![asked("system_powerdown"), probe(ProbeEvent::ButtonPressed), ending("button"), off()], true)]
#[case::agent(vec![asked("guest-shutdown"), ending("agent"), off()], true)]
#[case::agent_was_not_asked(vec![asked("system_powerdown"), Seen::PressTaken, ending("agent"), off()], false)]
#[case::button_was_not_pressed(vec![asked("guest-shutdown"), ending("button"), off()], false)]
#[case::was_on_its_way_down(vec![probe(ProbeEvent::VolumeUnmounted), asked("system_powerdown"), Seen::PressTaken, off()], false)]
#[case::before_it_was_asked(vec![off()], false)]
#[case::began_before(vec![ending("button"), asked("x"), Seen::PressTaken, off()], false)]
#[case::by_itself(vec![asked("x"), Seen::PressTaken, ending("timer"), off()], false)]
#[case::by_itself_although_both_were_asked(
    vec![asked("system_powerdown"), Seen::PressTaken, asked("guest-shutdown"), ending("timer"), off()],
    false
)]
#[case::by_libvirts_choice(vec![asked(DEFAULT), Seen::PressTaken, ending("button"), off()], true)]
#[case::a_session_that_says_button_is_no_press(vec![asked("system_powerdown"), ending("button"), off()], false)]
#[case::at_that_moment_by_chance(vec![asked("x"), off()], false)]
fn an_end_must_be_tied_to_the_request(#[case] seen: Vec<Seen>, #[case] tied: bool) {
    assert_eq!(matches!(tie(&timeline(seen), RequestMeans::AcpiButton), Tie::Tied(_)), tied);
}

/// A guest without our programs, watched from outside.
#[test]
fn phases_of_a_guest_without_a_probe_come_from_screen_and_channel() {
    let screen = |changed| Seen::ScreenChanged { file: "x.png".into(), changed };
    let channel = |open: bool| qmp("VSERPORT_CHANGE", json!({"open": open, "id": "agent"}));
    let booting = vec![asked("system_powerdown"), screen(1.0)];
    let seen = vec![
        screen(1.0),
        Seen::Ready,
        asked("system_powerdown"),
        screen(0.002),
        screen(0.4),
        channel(true),
        channel(false),
        off(),
    ];
    let told = |observations: &[Observation]| -> Vec<(Phase, u128)> {
        phases(observations).iter().map(|r| (r.phase, r.after.as_millis())).collect()
    };
    let outside =
        [(Phase::Request, 0), (Phase::Reacted, 200), (Phase::ServicesStopped, 400), (Phase::PoweredOff, 500)];
    assert_eq!(told(&timeline(seen.clone())), outside);
    assert_eq!(told(&timeline(booting)), [(Phase::Request, 0)]);
    // Falling asleep darkens the screen and may close the channel; other ports close, too.
    for sleep in ["SUSPEND", "SUSPEND_DISK"] {
        let mut asleep = seen.clone();
        asleep.insert(3, qmp(sleep, json!(null)));
        asleep.truncate(asleep.len() - 1);
        assert_eq!(told(&timeline(asleep)), [(Phase::Request, 0)], "{sleep}");
    }
    let other = vec![Seen::Ready, asked("system_powerdown"), qmp("NEWS", json!({"open": false}))];
    assert_eq!(told(&timeline(other)), [(Phase::Request, 0)]);
    // A guest that speaks is believed about its phases, not its screen.
    let mut speaking = seen;
    speaking.insert(0, probe(ProbeEvent::SessionEnded));
    assert_eq!(told(&timeline(speaking)), [(Phase::Request, 0), (Phase::PoweredOff, 500)]);
}

#[test]
fn a_sleeper_that_nothing_woke_did_nothing_to_tie() {
    let state = |state: &str| Seen::RunState { state: state.into() };
    let asleep = vec![state("suspended"), asked("system_powerdown")];
    let tied = |seen: Vec<Seen>| matches!(tie(&timeline(seen), RequestMeans::AcpiButton), Tie::Tied(_));
    assert!(tied(asleep.clone()));
    let mut woken = asleep.clone();
    woken.extend([qmp("WAKEUP", json!(null)), off()]);
    assert!(!tied(woken));
    assert!(!tied(vec![state("running"), asked("system_powerdown")]));
    let hibernated =
        vec![qmp("SUSPEND_DISK", json!(null)), off(), state("shutdown"), asked("system_powerdown")];
    assert!(tied(hibernated.clone()));
    assert!(!tied(hibernated.into_iter().skip(1).collect()), "it had powered off before it was asked");
    // The end was not told, or it woke up since.
    let to_disk = qmp("SUSPEND_DISK", json!(null));
    assert!(tied(vec![to_disk.clone(), state("shutdown"), asked("system_powerdown")]));
    assert!(!tied(vec![to_disk, state("running"), asked("system_powerdown")]));
    let gone = Seen::ProcessExited { code: None, signal: None };
    let ended = vec![qmp("SUSPEND_DISK", json!(null)), off(), gone, asked("system_powerdown")];
    assert!(tied(ended.clone()), "libvirt ends its QEMU");
    assert!(!tied(ended.into_iter().skip(1).collect()), "it had powered off before it was asked");
}
