//! Reads the text that `.homi/stats` gives: Prometheus's, as far as our daemon writes it.

use std::collections::BTreeMap;

/// Labels of a sample, by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// A histogram of seconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Histogram {
    /// Limit in seconds, and how many were at most that: both grow.
    pub(crate) buckets: Vec<(f64, u64)>,
    /// Seconds, together.
    pub(crate) sum: f64,
    pub(crate) count: u64,
}

/// All samples; lines that are none are left out.
pub(crate) fn parse(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
        let (key, value) = label.split_once('=')?;
        Some((key.to_owned(), value.trim_matches('"').to_owned()))
    });
    let labels = labels.collect::<Option<Labels>>()?;
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

/// Whole numbers, as all are but sums of seconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters are whole and not negative"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}

/// The histograms of one name, by their labels.
pub(crate) fn histograms(samples: &[Sample], name: &str) -> Vec<(Labels, Histogram)> {
    let mut found: Vec<(Labels, Histogram)> = Vec::new();
    for sample in samples {
        let Some(part) = sample.name.strip_prefix(name) else { continue };
        let mut labels = sample.labels.clone();
        let limit = labels.remove("le");
        // Lines of one histogram follow each other.
        if !matches!(part, "_bucket" | "_sum" | "_count") {
            continue;
        }
        if found.last().is_none_or(|(last, _)| *last != labels) {
            found.push((labels, Histogram::default()));
        }
        let Some((_, histogram)) = found.last_mut() else { continue };
        match (part, limit) {
            ("_bucket", Some(limit)) => {
                let limit = limit.parse().unwrap_or(f64::INFINITY);
                histogram.buckets.push((limit, whole(sample.value)));
            }
            ("_sum", _) => histogram.sum = sample.value,
            _ => histogram.count = whole(sample.value),
        }
    }
    found
}

impl Histogram {
    /// The mean in seconds.
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The limit in seconds of the bucket that this share of all (in thousandths) lies in or below; infinite for the last.
    pub(crate) fn quantile(&self, thousandths: u64) -> Option<f64> {
        let wanted = (self.count.saturating_mul(thousandths)).div_ceil(1000);
        (self.count > 0).then_some(())?;
        self.buckets.iter().find(|(_, so_far)| *so_far >= wanted).map(|(limit, _)| *limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a b.\n# TYPE a counter\na 7\nb{x=\"1\",y=\"\"} 8\n\
        h_bucket{op=\"r\",le=\"0.5\"} 1\nh_bucket{op=\"r\",le=\"1\"} 3\nh_bucket{op=\"r\",le=\"+Inf\"} 4\n\
        h_sum{op=\"r\"} 6\nh_count{op=\"r\"} 4\nh_bucket{op=\"w\",le=\"+Inf\"} 0\nh_sum{op=\"w\"} 0\nh_count{op=\"w\"} 0\n";

    #[test]
    fn samples_have_names_labels_and_values() {
        let samples = parse(TEXT);
        assert_eq!((&*samples[0].name, samples[0].value), ("a", 7.0));
        assert_eq!(samples[1].labels["x"], "1");
        assert_eq!(samples[1].labels["y"], "");
        assert_eq!(samples.len(), 10);
        assert!(parse("no number here\nx{y 3").is_empty());
    }

    #[test]
    fn histograms_give_means_and_quantiles() {
        let found = histograms(&parse(TEXT), "h");
        assert_eq!(found.len(), 2);
        let (labels, read) = &found[0];
        assert_eq!(labels["op"], "r");
        assert_eq!((read.count, read.mean()), (4, Some(1.5)));
        assert_eq!(read.quantile(250), Some(0.5));
        assert_eq!(read.quantile(500), Some(1.0));
        assert_eq!(read.quantile(990), Some(f64::INFINITY));
        assert_eq!((found[1].1.mean(), found[1].1.quantile(500)), (None, None));
    }
}
