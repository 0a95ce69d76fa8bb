//! `homifs check`: what this machine can do, and what to do about what it cannot.

mod probes;

use std::io::{self, Write as _};

use serde::Serialize;

use crate::arguments::{Check, Format};
use crate::failure::Failure;
use crate::{Result, output};

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It is there.
    Ok,
    /// It is not there, and mounting works without it.
    Missing,
    /// It is not there, and nothing can be mounted.
    Failed,
}

/// What one probe found.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do about it; empty where nothing is to be done.
    advice: String,
}

impl Finding {
    pub(crate) fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Ok, found: found.into(), advice: String::new() }
    }

    pub(crate) fn missing(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Missing, found: found.into(), advice: advice.into() }
    }

    pub(crate) fn failed(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, ..Self::missing(what, found, advice) }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    can_mount: bool,
    findings: Vec<Finding>,
}

pub(crate) fn run(arguments: &Check) -> Result {
    let findings = probes::all();
    let can_mount = findings.iter().all(|finding| finding.verdict != Verdict::Failed);
    let report = Report { version: 1, can_mount, findings };
    let mut output = io::stdout().lock();
    match arguments.output.output {
        Format::Json => {
            serde_json::to_writer_pretty(&mut output, &report)?;
            writeln!(output)?;
        }
        Format::Table => {
            let mut table = output::table();
            for finding in &report.findings {
                let mark = match finding.verdict {
                    Verdict::Ok => "ok",
                    Verdict::Missing => "-",
                    Verdict::Failed => "FAILED",
                };
                let advice = match &*finding.advice {
                    "" => String::new(),
                    advice => format!("; {advice}"),
                };
                table.add_row([
                    mark.to_owned(),
                    finding.what.to_owned(),
                    format!("{}{advice}", finding.found),
                ]);
            }
            writeln!(output, "{}", table.trim_fmt())?;
        }
    }
    if can_mount { Ok(()) } else { Err(Failure::plain("this machine cannot mount; see what FAILED above")) }
}
