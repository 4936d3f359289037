//! Names that no rule has seen: generated words, Hangul, digits.

use fastrand::Rng;
use softoff_harness::screen_texts::{
    BLOCKED_SHUTDOWN, EVENT_TRACKER, SHUTTING_DOWN, SIGN_IN, STOPPING_SERVICES, UPDATE_WORK,
};

/// A window's title, or what it says: one to three words of one script, sometimes with a number.
pub(crate) fn title(rng: &mut Rng) -> String {
    loop {
        let korean = rng.u8(..3) == 0;
        let mut words: Vec<String> =
            (0..rng.usize(1..=3)).map(|_| if korean { hangul(rng) } else { latin(rng) }).collect();
        if rng.bool() {
            words.push(rng.u32(1..10_000).to_string());
        }
        let title = words.join(if rng.bool() { " " } else { " - " });
        if is_innocent(&title) {
            return title;
        }
    }
}

/// A service's name: one word, for it stands without quotes in the service's command line. The digits make
/// it another name than that of a second service, or of one that the image has.
pub(crate) fn service(rng: &mut Rng) -> String {
    format!("{}{}{}", latin(rng), latin(rng), rng.u32(10..100))
}

fn latin(rng: &mut Rng) -> String {
    const ONSETS: &[u8] = b"bdfgklmnprstvz";
    const VOWELS: &[u8] = b"aeiou";
    let mut pick = |from: &[u8]| rng.choice(from).map_or('a', |letter| char::from(*letter));
    let mut word = String::from(pick(ONSETS).to_ascii_uppercase());
    word.push(pick(VOWELS));
    for _ in 0..2 {
        word.push(pick(ONSETS));
        word.push(pick(VOWELS));
    }
    word
}

fn hangul(rng: &mut Rng) -> String {
    (0..rng.usize(2..=4)).map(|_| rng.char('가'..='힣')).collect()
}

/// Whether it says nothing that a rule looks for, however the rules compare.
fn is_innocent(text: &str) -> bool {
    let all = [UPDATE_WORK, EVENT_TRACKER, BLOCKED_SHUTDOWN, SIGN_IN, SHUTTING_DOWN, STOPPING_SERVICES];
    let plain = |text: &str| {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    !all.concat().iter().any(|known| plain(text).contains(&plain(known.text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_looks_for_is_not_innocent() {
        assert!(!is_innocent("Notes: DON'T turn off, your PC!"));
        assert!(!is_innocent("시스템 종료중"));
        assert!(is_innocent("Bemoru 종료 17"));
    }
}
