//! A scenario over many nights, as an SVG picture: a block for each scenario and image, a dot for each night.

use anyhow::Context;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use crate::history::Night;
use crate::record::utc;
use crate::record::words::seconds;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 120.0;

#[derive(Serialize)]
struct Block {
    title: String,
    longest: String,
    dots: Vec<(f64, f64, bool, String)>,
    from: String,
    to: String,
}

/// The picture. A night without a shutdown stands on the upper edge; a night with failures is red.
pub fn nights_svg(nights: &[Night]) -> anyhow::Result<String> {
    let blocks: Vec<Block> =
        nights.chunk_by(|a, b| a.scenario == b.scenario && a.image == b.image).filter_map(block).collect();
    let mut engine = Environment::new();
    engine.set_auto_escape_callback(|_| AutoEscape::Html);
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.add_template("nights", include_str!("nights.svg")).context("the picture's template")?;
    let context = minijinja::context! { blocks => Value::from(Serde(blocks)) };
    engine.get_template("nights").and_then(|t| t.render(context)).context("drawing the nights")
}

fn block(nights: &[Night]) -> Option<Block> {
    let (first, last) = (nights.first()?, nights.last()?);
    let longest = nights.iter().filter_map(|n| n.off_ms).max().unwrap_or(0).max(1);
    let span = last.started_at.saturating_sub(first.started_at).max(1) as f64;
    let round = |x: f64| (x * 10.0).round() / 10.0;
    let dots = nights.iter().map(|n| {
        let x = n.started_at.saturating_sub(first.started_at) as f64 / span * WIDTH;
        let y = n.off_ms.map_or(0.0, |ms| HEIGHT - ms as f64 / longest as f64 * (HEIGHT - 12.0));
        let outcomes: Vec<String> = n.outcomes.iter().map(|(o, count)| format!("{count} {o}")).collect();
        let off = n.off_ms.map_or("not off".to_owned(), seconds);
        (round(x), round(y), n.failed > 0, format!("{} {off}: {}", utc(n.started_at), outcomes.join(", ")))
    });
    Some(Block {
        title: format!("{} on {}", first.scenario, first.image),
        longest: seconds(longest),
        dots: dots.collect(),
        from: utc(first.started_at),
        to: utc(last.started_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_by_time_and_nothing_foreign_is_markup() {
        let night = |day: u64, off_ms, failed| Night {
            run: "x".into(),
            started_at: 1_795_000_000 + day * 86_400,
            scenario: "<script>alert(1)</script>".into(),
            image: "reference".into(),
            outcomes: vec![("powered-off".into(), 3)],
            failed,
            off_ms,
        };
        let svg = nights_svg(&[night(0, Some(1000), 0), night(1, Some(2000), 0), night(2, None, 3)]).unwrap();
        assert!(!svg.contains("<script"), "{svg}");
        let dots: Vec<&str> = svg.lines().filter(|l| l.contains("<circle")).collect();
        let places = ["cx=\"0.0\" cy=\"66.0\"", "cx=\"360.0\" cy=\"12.0\"", "cx=\"720.0\" cy=\"0.0\""];
        for (dot, place) in dots.iter().zip(places) {
            assert!(dot.contains(place), "{dot}");
        }
        assert_eq!((dots.len(), svg.matches("class=\"bad\"").count()), (3, 1));
    }
}
