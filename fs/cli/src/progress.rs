//! Progress on a terminal, of work that takes longer than a second.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar of bytes, or a counter where the end is not known. Nothing is drawn where the results go to the terminal
/// themselves, and nothing in the first second.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    begun: Instant,
    shown: bool,
}

impl Progress {
    pub(crate) fn bytes(total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        Self::styled(bar, "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    pub(crate) fn counter() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self::styled(bar, "{spinner} {human_pos} files, {per_sec}")
    }

    fn styled(bar: ProgressBar, template: &str) -> Self {
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, begun: Instant::now(), shown: false }
    }

    /// So much was done.
    pub(crate) fn advance(&mut self, by: u64) {
        self.bar.inc(by);
        if !self.shown && self.begun.elapsed() > Duration::from_secs(1) {
            self.shown = true;
            if std::io::stderr().is_terminal() && !std::io::stdout().is_terminal() {
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
