//! One function that quotes a text for Windows' command lines, so that it arrives as one word, unchanged.
//!
//! Each rule is that of the program that takes the line apart: the C runtime's start-up code (and
//! CommandLineToArgvW), cmd.exe, PowerShell.

/// Who takes the line apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// A program, without a shell in between: CreateProcess, an answer file's command.
    Program,
    /// cmd.exe's own command line (`cmd /c ...`), which hands the word on to a program.
    Cmd,
    /// A line of a batch file, which hands the word on to a program.
    Batch,
    /// A PowerShell script.
    PowerShell,
}

/// Why a text cannot be one word there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be a word for {shell:?}: it has the character {found:?}, which ends a line there")]
pub struct Unquotable {
    /// The text.
    pub text: String,
    /// Where it was to go.
    pub shell: Shell,
    /// What stands against it.
    pub found: char,
}

/// The text as one word of such a line.
pub fn quote(shell: Shell, text: &str) -> Result<String, Unquotable> {
    // No quoting takes a line break through cmd.exe, and a zero ends every command line; PowerShell's quotes take
    // breaks.
    let ends_line = |c: &char| match shell {
        Shell::Program | Shell::PowerShell => *c == '\0',
        Shell::Cmd | Shell::Batch => matches!(c, '\0' | '\n' | '\r'),
    };
    if let Some(found) = text.chars().find(ends_line) {
        return Err(Unquotable { text: text.to_owned(), shell, found });
    }
    Ok(match shell {
        Shell::Program => argument(text),
        Shell::Cmd => carets(&argument(text)),
        // In a batch file `%%` stands for one; carets before it would not be taken away in the same pass.
        Shell::Batch => argument_in_batch(&argument(text)),
        Shell::PowerShell => single_quotes(text),
    })
}

/// The C runtime's rules: a word with blanks is in quotation marks; a mark inside has a backslash before it; backslashes
/// count only where a mark follows, and are doubled there.
fn argument(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '"';
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::from('"');
    let mut backslashes = 0;
    for c in text.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => {
                out.extend(std::iter::repeat_n('\\', backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        out.push(c);
    }
    out.extend(std::iter::repeat_n('\\', backslashes));
    out.push('"');
    out
}

/// What means something to cmd.exe. With a caret before every one, also before quotation marks, cmd.exe is never inside
/// quotes, and takes one caret away from each. A `%` cannot be escaped on a command line; the caret makes
/// the name between two of them one that no variable has.
fn special(c: char) -> bool {
    matches!(c, '"' | '&' | '|' | '<' | '>' | '(' | ')' | '^' | '%' | '!' | '@' | ',' | ';' | '=')
}

fn carets(word: &str) -> String {
    word.chars().flat_map(|c| special(c).then_some('^').into_iter().chain([c])).collect()
}

fn argument_in_batch(word: &str) -> String {
    let escaped = |c: char| match c {
        '%' => "%%".to_owned(),
        c if special(c) => format!("^{c}"),
        c => c.to_string(),
    };
    word.chars().map(escaped).collect()
}

/// PowerShell's single quotes take everything but themselves; its typographic ones count as the same.
fn single_quotes(text: &str) -> String {
    let quote = |c: char| matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}');
    let inner: String =
        text.chars().flat_map(|c| std::iter::repeat_n(c, if quote(c) { 2 } else { 1 })).collect();
    format!("'{inner}'")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// Takes a line apart by the C runtime's rules, written from their description and not from [`argument`].
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut open, mut inside) = (Vec::new(), String::new(), false, false);
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => {
                    let mut run = 1;
                    while chars.next_if_eq(&'\\').is_some() {
                        run += 1;
                    }
                    open = true;
                    if chars.peek() == Some(&'"') {
                        word.extend(std::iter::repeat_n('\\', run / 2));
                        if run % 2 == 1 {
                            chars.next();
                            word.push('"');
                        }
                    } else {
                        word.extend(std::iter::repeat_n('\\', run));
                    }
                }
                '"' => (inside, open) = (!inside, true),
                c if c.is_whitespace() && !inside => {
                    if open {
                        words.push(std::mem::take(&mut word));
                    }
                    open = false;
                }
                c => {
                    word.push(c);
                    open = true;
                }
            }
        }
        if open {
            words.push(word);
        }
        words
    }

    /// cmd.exe's second pass: a caret outside quotes takes the meaning from the next character and goes. What
    /// still means something then would have been acted on.
    fn through_cmd(line: &str) -> Result<String, char> {
        let (mut out, mut inside) = (String::new(), false);
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                '^' if !inside => out.extend(chars.next()),
                '"' => {
                    inside = !inside;
                    out.push(c);
                }
                '&' | '|' | '<' | '>' | '(' | ')' if !inside => return Err(c),
                c => out.push(c),
            }
        }
        Ok(out)
    }

    /// A batch file's first pass: two signs are one, a single one begins a variable's name.
    fn through_batch(line: &str) -> Result<String, char> {
        let mut out = String::new();
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            if c == '%' && chars.next() != Some('%') {
                return Err('%');
            }
            out.push(c);
        }
        through_cmd(&out)
    }

    #[rstest]
    #[case(Shell::Program, "", "\"\"")]
    #[case(Shell::Program, r"C:\softoff\probe.exe", r"C:\softoff\probe.exe")]
    #[case(Shell::Program, r"C:\Program Files\", r#""C:\Program Files\\""#)]
    #[case(Shell::Program, "say \"yes\"", r#""say \"yes\"""#)]
    #[case(Shell::Program, r#"a\"b"#, r#""a\\\"b""#)]
    #[case(Shell::Cmd, "a & b", r#"^"a ^& b^""#)]
    #[case(Shell::Cmd, "%PATH%", "^%PATH^%")]
    #[case(Shell::Batch, "100%", "100%%")]
    #[case(Shell::Batch, "a|b", "a^|b")]
    #[case(Shell::PowerShell, "it's $(calc) \"x\"", "'it''s $(calc) \"x\"'")]
    #[case(Shell::PowerShell, "typographic \u{2019}", "'typographic \u{2019}\u{2019}'")]
    fn words_by_hand(#[case] shell: Shell, #[case] text: &str, #[case] quoted: &str) {
        assert_eq!(quote(shell, text).as_deref(), Ok(quoted));
    }

    #[rstest]
    #[case(Shell::Cmd, "a\nb", '\n')]
    #[case(Shell::Batch, "a\rdel", '\r')]
    #[case(Shell::Program, "a\0b", '\0')]
    #[case(Shell::PowerShell, "\0", '\0')]
    fn what_ends_a_line_is_refused(#[case] shell: Shell, #[case] text: &str, #[case] found: char) {
        assert_eq!(quote(shell, text).unwrap_err().found, found);
    }

    /// Letters, and everything that means something to somebody.
    const TEXT: &str = "([a-z é앱]|[\"'%^&|<>()!@,;=\\\\`$]|\u{2019}){0,24}";

    proptest! {
        #[test]
        fn a_word_arrives_unchanged_among_others(before in TEXT, text in TEXT, after in TEXT) {
            let line = [&before, &text, &after].map(|t| quote(Shell::Program, t).unwrap()).join(" ");
            prop_assert_eq!(words(&line), [before, text, after]);
        }

        #[test]
        fn cmd_acts_on_nothing_and_hands_the_word_on(text in TEXT) {
            let line = quote(Shell::Cmd, &text).unwrap();
            // No name between two signs is one that a variable can have by accident.
            prop_assert!(!line.contains('%') || line.match_indices('%').all(|(at, _)| line[..at].ends_with('^')));
            prop_assert_eq!(through_cmd(&line).map(|line| words(&line)), Ok(vec![text]));
        }

        #[test]
        fn a_batch_file_hands_the_word_on(text in TEXT) {
            let line = quote(Shell::Batch, &text).unwrap();
            prop_assert_eq!(through_batch(&line).map(|line| words(&line)), Ok(vec![text]));
        }

        #[test]
        fn powershell_never_leaves_its_quotes(text in "\\PC{0,24}") {
            let quoted = quote(Shell::PowerShell, &text).unwrap();
            let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap();
            let is_quote = |c: &char| matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}');
            let (mut read, mut chars) = (String::new(), inner.chars());
            while let Some(c) = chars.next() {
                read.push(c);
                if is_quote(&c) {
                    prop_assert_eq!(chars.next(), Some(c), "a quote that ends the text: {}", quoted);
                }
            }
            prop_assert_eq!(read, text);
        }
    }
}
