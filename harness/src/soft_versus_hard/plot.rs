//! The plot: time on one axis, one lane for each kind of damage; a filled mark is damage, a hollow one is none.

use std::fmt::Write;

use super::Arm;
use crate::outcome::OutcomeKind;

/// Pixels.
const LEFT: f64 = 230.0;
const RIGHT: f64 = 30.0;
const WIDTH: f64 = 860.0;
const TOP: f64 = 50.0;
const LANE: f64 = 34.0;
/// From one slanted name to the next.
const NAME: f64 = 15.0;
/// Room below for the axis and the arms' names.
const BOTTOM: f64 = 130.0;

/// A lane: its name, and whether an arm shows that damage; `None` where it could not be read.
type Lane = (&'static str, fn(&Arm) -> Option<bool>);

const LANES: [Lane; 8] = [
    ("volume marked dirty", |arm| arm.volume_dirty),
    ("flushed documents lost", |arm| arm.flushed_lost.map(|(lost, _)| lost > 0)),
    ("unflushed documents lost", |arm| arm.unflushed_lost.map(|(lost, _)| lost > 0)),
    ("update interrupted", |arm| arm.update.as_ref().map(|(_, interrupted)| *interrupted)),
    ("event log left open", |arm| arm.log_closed.map(|closed| !closed)),
    ("no ShutdownTime", |arm| arm.time_noted.map(|noted| !noted)),
    ("next boot checks the volume", |arm| arm.next_boot.as_ref().map(|next| next.checked)),
    ("next boot rolls back", |arm| arm.next_boot.as_ref().map(|next| next.rolled_back)),
];

/// The plot as an SVG document.
pub fn svg(arms: &[Arm]) -> String {
    let longest = arms.iter().filter_map(|arm| arm.ended).max().unwrap_or_default().as_secs_f64();
    // A whole number of seconds, and never no time at all.
    let end = longest.ceil().max(1.0);
    let x = |seconds: f64| LEFT + seconds / end * (WIDTH - LEFT - RIGHT);
    let y = |lane: usize| TOP + LANE * lane as f64;
    let axis = y(LANES.len());
    let height = axis + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Damage against kill time, seconds from the request</text>\n"
    );
    let mut add = |line: std::fmt::Arguments<'_>| {
        // Writing into a String cannot fail.
        let _written = svg.write_fmt(format_args!("{line}\n"));
    };
    let step = (end / 10.0).ceil().max(1.0);
    let mut tick = 0.0;
    while tick <= end {
        let at = x(tick);
        add(format_args!("<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{axis}\" stroke=\"#ddd\"/>"));
        let below = axis + 16.0;
        add(format_args!(
            "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\" fill=\"#555\">{tick}</text>"
        ));
        tick += step;
    }
    for (number, (name, shows)) in LANES.iter().enumerate() {
        let middle = y(number) + LANE / 2.0;
        let (label, baseline) = (LEFT - 14.0, middle + 4.0);
        add(format_args!("<text x=\"{label}\" y=\"{baseline}\" text-anchor=\"end\">{name}</text>"));
        for arm in arms {
            let (Some(ended), Some(damaged)) = (arm.ended, shows(arm)) else { continue };
            let at = x(ended.as_secs_f64());
            let (fill, stroke) = if damaged { ("#c0392b", "#c0392b") } else { ("#fff", "#2e7d32") };
            let title = escape(&format!("{}: {name}: {}", arm.name, if damaged { "yes" } else { "no" }));
            if arm.outcome == OutcomeKind::HostKilled {
                add(format_args!(
                    "<circle cx=\"{at:.1}\" cy=\"{middle}\" r=\"6\" fill=\"{fill}\" stroke=\"{stroke}\" \
                     stroke-width=\"2\"><title>{title}</title></circle>"
                ));
            } else {
                let (left, top) = (at - 6.0, middle - 6.0);
                add(format_args!(
                    "<rect x=\"{left:.1}\" y=\"{top}\" width=\"12\" height=\"12\" fill=\"{fill}\" \
                     stroke=\"{stroke}\" stroke-width=\"2\"><title>{title}</title></rect>"
                ));
            }
        }
    }
    let mut named: Vec<(f64, &str)> =
        arms.iter().filter_map(|arm| Some((x(arm.ended?.as_secs_f64()), arm.name.as_str()))).collect();
    named.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = 0.0;
    for (at, name) in named {
        // Names of arms that are close to each other stand side by side.
        let (at, below, name) = (at.max(free), axis + 30.0, escape(name));
        free = at + NAME;
        add(format_args!(
            "<text transform=\"translate({at:.1} {below}) rotate(-40)\" text-anchor=\"end\" font-size=\"11\">{name}</text>"
        ));
    }
    let key = height - 10.0;
    add(format_args!(
        "<text x=\"{LEFT}\" y=\"{key}\" fill=\"#555\">circle: plug pulled; square: the guest ended itself; \
         filled: damage; hollow: none</text>"
    ));
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
