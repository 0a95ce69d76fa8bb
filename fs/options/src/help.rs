//! The table as text.

use std::fmt::Write as _;

use crate::MountOptions;
use crate::parse::value_of;
use crate::table::{Group, Kind, Row, TABLE};

/// Columns of a terminal, and where explanations begin.
const WIDTH: usize = 100;
const INDENT: usize = 30;

const TITLES: [(Group, &str); 6] = [
    (Group::Volume, "The volume"),
    (Group::Speed, "Speed and memory"),
    (Group::Clients, "Clients with queues of their own"),
    (Group::Access, "Access"),
    (Group::Log, "Log"),
    (Group::Generic, "As for every file system"),
];

/// An option as it is written, with a word for its value.
fn synopsis(row: &Row) -> String {
    match &row.kind {
        Kind::Number { unit, .. } => format!("{}={}", row.name, unit.placeholder()),
        Kind::Choice { words, .. } => format!("{}={}", row.name, words.join("|")),
        Kind::File { .. } => format!("{}=PATH", row.name),
        Kind::Flag { .. } | Kind::Lower | Kind::Tolerated { .. } | Kind::Refused { .. } => {
            row.name.to_owned()
        }
    }
}

fn default_of(row: &Row) -> Option<String> {
    let words = (!row.default.is_empty()).then(|| row.default.to_owned());
    words.or_else(|| value_of(row, &MountOptions::default()))
}

fn sentence(row: &Row) -> String {
    match default_of(row) {
        Some(default) => format!("{} [default: {default}]", row.help),
        None => row.help.to_owned(),
    }
}

/// Rows that help explains; those that merely undo others speak for themselves.
fn explained(group: Group) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(move |row| row.group == group && !row.help.is_empty())
}

/// Words that are accepted and need no explanation.
fn unexplained() -> String {
    let names = TABLE
        .iter()
        .filter(|row| row.help.is_empty() && !matches!(row.kind, Kind::Refused { .. }))
        .map(|row| row.name);
    names.collect::<Vec<_>>().join(", ")
}

/// All options for a terminal, one or more lines each.
#[must_use]
pub fn help_text() -> String {
    let mut text = String::from("Mount options (-o, separated by commas):\n");
    for (group, title) in TITLES {
        let _ = writeln!(text, "\n{title}:");
        for row in explained(group) {
            let synopsis = format!("  {}", synopsis(row));
            let mut beginning = format!("{synopsis:<INDENT$}");
            if synopsis.len() >= INDENT {
                let _ = writeln!(text, "{synopsis}");
                beginning = " ".repeat(INDENT);
            }
            for line in wrap(&sentence(row), WIDTH - INDENT) {
                let _ = writeln!(text, "{beginning}{line}");
                beginning = " ".repeat(INDENT);
            }
        }
    }
    text.push_str("\nAlso accepted:\n");
    for line in wrap(&unexplained(), WIDTH - 2) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// Breaks a text between words into lines of at most `width` bytes.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The section of the man page, in roff.
#[must_use]
pub fn man_section() -> String {
    let mut text = String::from(".SH \"MOUNT OPTIONS\"\n");
    for (group, title) in TITLES {
        let _ = writeln!(text, ".SS \"{title}\"");
        for row in explained(group) {
            let _ = writeln!(text, ".TP\n\\fB{}\\fR\n{}", escape(&synopsis(row)), escape(&sentence(row)));
        }
    }
    let _ = writeln!(text, ".PP\nAlso accepted: {}.", escape(&unexplained()));
    text
}

fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
