//! What several rounds gave.

/// One measurement of each round, in the order of the rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The smallest, the middle and the largest one; `None` where nothing was measured.
    pub(crate) fn spread(&self) -> Option<(f64, f64, f64)> {
        let sorted = self.sorted();
        Some((*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?))
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.spread().map(|(_, median, _)| median)
    }

    /// How much longer one of these takes than one of the base, where samples are rates a second: the median of the
    /// differences round by round, in microseconds.
    pub(crate) fn longer_than(&self, base: &Self) -> Option<f64> {
        let longer = self.0.iter().zip(&base.0).map(|(ours, theirs)| 1e6 / ours - 1e6 / theirs).collect();
        Self(longer).median()
    }

    /// The median of the ratios, round by round: what slows a whole round down cancels out.
    pub(crate) fn ratio_to(&self, base: &Self) -> Option<f64> {
        let ratios = self.0.iter().zip(&base.0).map(|(ours, theirs)| ours / theirs).collect();
        Self(ratios).median()
    }
}
