use super::*;

fn note(what: &str) -> Seen {
    Seen::Note { what: what.into() }
}

#[tokio::test]
async fn waiting_sees_what_came_before_and_what_comes_later() {
    let timeline = Timeline::start();
    timeline.add(Source::Host, note("early"));
    let is = |wanted: &'static str| {
        move |o: &Observation| matches!(&o.what, Seen::Note { what } if what == wanted).then_some(())
    };
    assert_eq!(timeline.wait_for(Duration::ZERO, is("early")).await, Some(()));
    let later = timeline.clone();
    tokio::spawn(async move { later.add(Source::Host, note("late")) });
    assert_eq!(timeline.wait_for(Duration::from_secs(5), is("late")).await, Some(()));
    assert_eq!(timeline.wait_for(Duration::from_millis(1), is("never")).await, None);
}

#[test]
fn qmp_stamps_are_placed_between_the_start_and_now() {
    let clock = RunClock::start();
    let realtime = i64::try_from(clock.realtime.as_micros()).unwrap();
    assert_eq!(clock.place_qmp(0, realtime - 5_000_000), Duration::ZERO);
    assert!(clock.place_qmp(0, realtime + 3_600_000_000) <= clock.now());
    assert!(clock.place_qmp(i64::MAX, i64::MAX) <= clock.now());
}

#[test]
fn the_snapshot_is_ordered_by_time_not_by_arrival() {
    let timeline = Timeline::start();
    timeline.add_at(Duration::from_millis(5), Source::Host, note("second"));
    timeline.add_at(Duration::from_millis(2), Source::Qmp, note("first"));
    let times: Vec<u64> = timeline.snapshot().iter().map(|o| o.at_us).collect();
    assert_eq!(times, [2000, 5000]);
}

#[test]
fn observations_survive_the_file() {
    let seen = Observation {
        at_us: 7,
        source: Source::Qmp,
        what: Seen::QmpEvent { name: "RTC_CHANGE".into(), data: serde_json::json!({"offset": 1}) },
    };
    let line = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<Observation>(&line).unwrap(), seen);
}
