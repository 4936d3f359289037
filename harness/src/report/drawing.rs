//! The timeline of one result, drawn to scale: phases, a lane of events for each source, and the film strip of
//! screens. Only positions are worked out here; the template draws.
//!
//! The drawing is [`WIDTH`] units wide. It begins a little before the first request, so that what the press found
//! is in it, and ends with the last observation; without a request it shows everything.

use serde::Serialize;

use crate::outcome::Phase;
use crate::record::schema::ScenarioRecord;
use crate::record::words::seconds;
use crate::text::printable;
use crate::timeline::{Observation, Seen, Source};

/// Width of the drawing.
pub(super) const WIDTH: f64 = 1000.0;
/// Width of a picture in the film strip; its height is five eighths of it, the guest's 1280 x 800.
pub(super) const PICTURE: f64 = 150.0;
const GAP: f64 = 8.0;
/// Rows of the film strip; pictures for which there is no room are counted and linked below it.
const ROWS: usize = 3;
/// Events drawn; a machine can send any number.
const EVENTS: usize = 2000;

/// The drawing.
#[derive(Debug, Clone, Default, Serialize, PartialEq)]
pub(super) struct Drawing {
    /// Marks of the scale.
    pub(super) ticks: Vec<Tick>,
    /// The phases, side by side.
    pub(super) phases: Vec<Bar>,
    /// One for each source that was heard.
    pub(super) lanes: Vec<Lane>,
    /// The film strip.
    pub(super) pictures: Vec<Picture>,
    /// Rows of the film strip that are used.
    pub(super) rows: usize,
    /// Pictures for which there was no room.
    pub(super) left_out: usize,
    /// Where the first request is.
    pub(super) request_x: Option<f64>,
}

/// A mark of the scale.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(super) struct Tick {
    /// Place.
    pub(super) x: f64,
    /// Seconds from the request.
    pub(super) label: String,
}

/// One phase, from the one before it.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(super) struct Bar {
    /// Place.
    pub(super) x: f64,
    /// Width, at least 1 so that it shows.
    pub(super) width: f64,
    /// The phase that it leads to.
    pub(super) phase: String,
    /// Name, duration and source.
    pub(super) title: String,
}

/// The events of one source.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(super) struct Lane {
    /// The source.
    pub(super) source: String,
    /// Its events.
    pub(super) events: Vec<Event>,
}

/// One event.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(super) struct Event {
    /// Place.
    pub(super) x: f64,
    /// Seconds from the request.
    pub(super) at: String,
    /// What was seen, escaped for terminals.
    pub(super) what: String,
}

/// One picture of the film strip.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(super) struct Picture {
    /// When it was taken.
    pub(super) x: f64,
    /// Its left edge.
    pub(super) left: f64,
    /// Its row, from 0.
    pub(super) row: usize,
    /// Its file's name.
    pub(super) file: String,
    /// Seconds from the request.
    pub(super) at: String,
}

struct Scale {
    from: f64,
    span: f64,
    zero: f64,
}

impl Scale {
    fn x(&self, at_us: u64) -> f64 {
        let x = (at_us as f64 - self.from) / self.span * WIDTH;
        // A tenth of a unit is finer than any screen, and keeps the page small.
        (x.clamp(0.0, WIDTH) * 10.0).round() / 10.0
    }

    fn label(&self, at_us: u64) -> String {
        format!("{:+.3} s", (at_us as f64 - self.zero) / 1e6)
    }
}

/// Draws a result by its observations, which are ordered by time.
pub(super) fn draw(result: &ScenarioRecord, observations: &[Observation]) -> Drawing {
    let Some(scale) = scale(observations) else { return Drawing::default() };
    let asked = observations.iter().find(|o| matches!(o.what, Seen::Requested { .. })).map(|o| o.at_us);
    let mut drawing =
        Drawing { ticks: ticks(&scale), request_x: asked.map(|at| scale.x(at)), ..Drawing::default() };
    if let Some(asked) = asked {
        drawing.phases = phases(result, &scale, asked);
    }
    let shown: Vec<&Observation> = observations.iter().filter(|o| o.at_us as f64 >= scale.from).collect();
    for source in [
        Source::Host,
        Source::Qmp,
        Source::Probe,
        Source::Agent,
        Source::Screen,
        Source::Console,
        Source::Process,
    ] {
        let of = shown.iter().filter(|o| o.source == source).take(EVENTS);
        let events: Vec<Event> = of
            .map(|o| Event { x: scale.x(o.at_us), at: scale.label(o.at_us), what: o.what.brief() })
            .collect();
        if !events.is_empty() {
            drawing.lanes.push(Lane { source: name(source), events });
        }
    }
    strip(&mut drawing, &scale, observations);
    drawing
}

fn name(source: Source) -> String {
    serde_json::to_value(source).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn scale(observations: &[Observation]) -> Option<Scale> {
    let (first, last) = (observations.first()?.at_us as f64, observations.last()?.at_us as f64);
    let asked = observations.iter().find(|o| matches!(o.what, Seen::Requested { .. }));
    let (from, zero) = match asked {
        Some(o) => {
            let asked = o.at_us as f64;
            let before = ((last - asked) * 0.08).clamp(50_000.0, 5_000_000.0);
            ((asked - before).max(first), asked)
        }
        None => (first, first),
    };
    Some(Scale { from, span: (last - from).max(1.0), zero })
}

/// Between four and ten marks at 1, 2 or 5 times a power of ten.
fn ticks(scale: &Scale) -> Vec<Tick> {
    let span = scale.span / 1e6;
    let power = 10f64.powf((span / 4.0).log10().floor());
    let step = [5.0, 2.0, 1.0].into_iter().map(|f| f * power).find(|s| span / s >= 4.0).unwrap_or(power);
    let first = ((scale.from - scale.zero) / 1e6 / step).ceil();
    (0..12)
        .map(|n| (first + f64::from(n)) * step)
        .map(|at| (at, (at * 1e6 + scale.zero - scale.from) / scale.span * WIDTH))
        .filter(|(_, x)| (0.0..=WIDTH).contains(x))
        .map(|(at, x)| {
            let label = if step < 1.0 { format!("{at:.2} s") } else { format!("{at:.0} s") };
            Tick { x: (x * 10.0).round() / 10.0, label }
        })
        .collect()
}

fn phases(result: &ScenarioRecord, scale: &Scale, asked: u64) -> Vec<Bar> {
    let mut before = 0;
    let mut bars = Vec::new();
    for phase in Phase::ALL.into_iter().skip(1) {
        let Some(at) = result.phases.of(phase) else { continue };
        let place = |ms: u64| scale.x(asked.saturating_add(ms.saturating_mul(1000)));
        let source = result.phase_sources.iter().find(|s| s.phase == phase);
        let source = source.map_or(String::new(), |s| format!(", by {} ±{} ms", name(s.source), s.error_ms));
        bars.push(Bar {
            x: place(before),
            width: (place(at) - place(before)).max(1.0),
            phase: phase.to_string(),
            title: format!(
                "{phase}: {} after the request, took {}{source}",
                seconds(at),
                seconds(at.saturating_sub(before))
            ),
        });
        before = at;
    }
    bars
}

/// Each picture stands where it was taken, in the first row with room there.
fn strip(drawing: &mut Drawing, scale: &Scale, observations: &[Observation]) {
    let mut ends: Vec<f64> = Vec::new();
    let taken = |o: &Observation| match &o.what {
        Seen::ScreenChanged { file, .. } => Some((o.at_us, file.clone())),
        _ => None,
    };
    let all: Vec<(u64, String)> = observations.iter().filter_map(taken).collect();
    // The last picture before the window is what the press found.
    let before = all.iter().rposition(|(at, _)| (*at as f64) < scale.from).unwrap_or(0);
    for (at, file) in all.into_iter().skip(before) {
        let x = scale.x(at);
        let left = x.min(WIDTH - PICTURE);
        let row = ends.iter().position(|end| *end <= left);
        let row = match row {
            Some(row) => row,
            None if ends.len() < ROWS => {
                ends.push(0.0);
                ends.len() - 1
            }
            None => {
                drawing.left_out += 1;
                continue;
            }
        };
        if let Some(end) = ends.get_mut(row) {
            *end = left + PICTURE + GAP;
        }
        drawing.pictures.push(Picture { x, left, row, file: printable(&file, 80), at: scale.label(at) });
    }
    drawing.rows = ends.len();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::result;
    use proptest::prelude::*;

    fn screen(at_us: u64, n: usize) -> Observation {
        let file = format!("screen-{n:03}.png");
        Observation { at_us, source: Source::Screen, what: Seen::ScreenChanged { file, changed: 0.5 } }
    }

    fn request(at_us: u64) -> Observation {
        let what = Seen::Requested { by: "system_powerdown".into(), number: 1 };
        Observation { at_us, source: Source::Host, what }
    }

    #[test]
    fn times_are_to_scale() {
        // From 1 s before the request (a tenth of 10 s is cut at 0.8) to 10 s after it.
        let observations =
            [screen(2_000_000, 1), request(20_000_000), screen(25_000_000, 2), screen(30_000_000, 3)];
        let mut record = result("control", 1);
        record.phases.reacted_ms = Some(0);
        record.phases.session_ended_ms = Some(5000);
        record.phases.services_stopped_ms = None;
        record.phases.powered_off_ms = Some(10_000);
        let drawing = draw(&record, &observations);
        let zero = drawing.request_x.unwrap();
        assert!((zero - WIDTH * 0.8 / 10.8).abs() < 0.1, "{zero}");
        let half = zero + (WIDTH - zero) / 2.0;
        let places: Vec<(f64, f64)> = drawing.phases.iter().map(|b| (b.x, b.width)).collect();
        assert_eq!(places.len(), 3);
        assert!((places[1].1 - (half - zero)).abs() < 0.2, "{places:?}");
        assert!((places[2].0 - half).abs() < 0.2, "{places:?}");
        // What the press found stands at the left edge; the last picture ends at the right edge.
        let strip: Vec<(f64, usize)> = drawing.pictures.iter().map(|p| (p.left, p.row)).collect();
        assert_eq!(strip[0], (0.0, 0));
        assert_eq!(strip[2], (WIDTH - PICTURE, 0));
        let labels: Vec<&str> = drawing.ticks.iter().map(|t| t.label.as_str()).collect();
        assert_eq!(labels, ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]);
    }

    #[test]
    fn pictures_at_one_time_stand_below_each_other_and_the_rest_is_counted() {
        let mut observations = vec![request(0)];
        observations.extend((0..5).map(|n| screen(1_000_000 + n, n as usize)));
        let drawing = draw(&result("control", 1), &observations);
        assert_eq!((drawing.pictures.len(), drawing.rows, drawing.left_out), (3, 3, 2));
    }

    proptest! {
        #[test]
        fn whatever_the_times_everything_stays_inside(
            times in proptest::collection::vec(any::<u64>(), 0..40), asked in proptest::option::of(any::<u64>())
        ) {
            let mut observations: Vec<Observation> = times.iter().map(|t| screen(*t, 1)).collect();
            observations.extend(asked.map(request));
            observations.sort_by_key(|o| o.at_us);
            let drawing = draw(&result("control", 1), &observations);
            for x in drawing.ticks.iter().map(|t| t.x)
                .chain(drawing.pictures.iter().map(|p| p.left + PICTURE))
                .chain(drawing.phases.iter().map(|b| b.x)) {
                prop_assert!((0.0..=WIDTH).contains(&x), "{x}");
            }
            prop_assert!(drawing.ticks.len() <= 12);
        }
    }
}
