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

/// A clock in November 2026.
const REALTIME: Duration = Duration::from_secs(1_795_459_231);

#[test]
fn qmp_stamps_are_placed_by_how_long_ago_they_were_made() {
    let clock = RunClock::start();
    std::thread::sleep(Duration::from_millis(30));
    let stamp = |ago: i64| {
        let micros = i64::try_from(REALTIME.as_micros()).unwrap() - ago;
        clock.now().saturating_sub(clock.place_qmp(0, micros, REALTIME))
    };
    // Between the two readings of the clock here nothing is subtracted but the wait itself.
    let near = |found: Duration, wanted: u64| found.as_micros().abs_diff(u128::from(wanted)) < 5_000;
    assert!(near(stamp(20_000), 20_000), "{:?}", stamp(20_000));
    assert!(near(stamp(0), 0));
    // From the future, from yesterday, from nowhere: the clock was set, and the reading counts.
    for ago in [-3_600_000_000, -1, 86_400_000_000, i64::from(u32::MAX) * 1_000_000] {
        assert!(near(stamp(ago), 0), "{ago}");
    }
    assert!(clock.place_qmp(i64::MAX, i64::MAX, REALTIME) <= clock.now());
    assert!(clock.place_qmp(-1, -1, REALTIME) <= clock.now());
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
