//! What a Windows that did not go down can still tell, collected by its own programs into the record's folder.

use std::path::Path;

use super::driver::GuestDriver;
use crate::text::printable;

/// A question: the file that the answer goes to, the program, its arguments.
struct Question {
    file: &'static str,
    program: &'static str,
    args: &'static [&'static str],
}

/// Bytes kept of one answer.
const LONGEST: usize = 4 << 20;

/// Each is a program that every Windows brings; none changes anything.
const QUESTIONS: [Question; 6] = [
    Question { file: "guest-tasks.txt", program: "tasklist", args: &["/v", "/fo", "csv"] },
    // Hidden settings too (the forced button, VIDEOCONLOCK).
    Question { file: "guest-power.txt", program: "powercfg", args: &["/qh", "SCHEME_CURRENT"] },
    Question { file: "guest-sleep-states.txt", program: "powercfg", args: &["/a"] },
    // Services that are on their way down, or do not come.
    Question {
        file: "guest-services.txt",
        program: "sc",
        args: &["query", "type=", "service", "state=", "all"],
    },
    Question {
        file: "guest-system-log.xml",
        program: "wevtutil",
        args: &["qe", "System", "/c:60", "/rd:true", "/f:xml"],
    },
    Question {
        file: "guest-application-log.xml",
        program: "wevtutil",
        args: &["qe", "Application", "/c:60", "/rd:true", "/f:xml"],
    },
];

/// Asks every question and writes the answers; gives the names of the files, and what could not be had.
pub async fn collect(guest: &GuestDriver, dir: &Path) -> (Vec<String>, Vec<String>) {
    let (mut files, mut lacking) = (Vec::new(), Vec::new());
    for question in QUESTIONS {
        let answer = match guest.run(question.program, question.args).await {
            Ok(answer) if answer.code == Some(0) => answer.stdout,
            Ok(answer) => {
                let said = printable(answer.stderr.trim(), 200);
                lacking.push(format!("{}: exit code {:?}: {said}", question.file, answer.code));
                continue;
            }
            Err(error) => {
                lacking.push(format!("{}: {error}", question.file));
                // An agent that does not answer one question answers none: the run must not wait for each.
                break;
            }
        };
        let text = answer.get(..LONGEST).unwrap_or(&answer);
        match std::fs::write(dir.join(question.file), text) {
            Ok(()) => files.push(question.file.to_owned()),
            Err(error) => lacking.push(format!("{}: {error}", question.file)),
        }
    }
    (files, lacking)
}
