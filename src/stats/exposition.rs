//! The text Prometheus reads (exposition format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, `_sum` and `_count`.
    Histogram,
}

/// Families of samples, each family together as the format wants it, in order of their names.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    kind: Kind,
    help: String,
    samples: String,
}

impl Kind {
    /// As the format writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Exposition {
    /// Names a family. One that is there already stays as it is.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let family = || Family { kind, help: help.to_owned(), samples: String::new() };
        self.families.entry(name.to_owned()).or_insert_with(family);
    }

    /// The kind of a family that is there.
    #[must_use]
    pub fn kind_of(&self, name: &str) -> Option<Kind> {
        self.families.get(name).map(|family| family.kind)
    }

    /// Adds a sample to a family that was named.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.part(name, "", labels, value);
    }

    /// Adds a histogram: how many values were at most each bound (`None`: in all), and their sum.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        cumulative: impl Iterator<Item = (Option<u64>, u64)>,
        sum: impl Display,
    ) {
        let mut count = 0;
        for (bound, up_to) in cumulative {
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.part(name, "_bucket", &labels, up_to);
            count = up_to;
        }
        self.part(name, "_sum", labels, sum);
        self.part(name, "_count", labels, count);
    }

    fn part(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let Some(family) = self.families.get_mut(name) else {
            debug_assert!(false, "the family {name} was not named");
            return;
        };
        let samples = &mut family.samples;
        samples.push_str(name);
        samples.push_str(suffix);
        for (at, (label, value)) in labels.iter().enumerate() {
            samples.push(if at == 0 { '{' } else { ',' });
            // Writing to a string can't fail.
            let _ = write!(samples, "{label}=\"{}\"", escaped(value, true));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(samples, "{end} {value}");
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let (help, kind) = (escaped(&family.help, false), family.kind.as_str());
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{}", family.samples);
        }
        text
    }
}

fn escaped(text: &str, is_label: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if is_label { text.replace('"', "\\\"") } else { text }
}

/// A name that Prometheus takes: `[a-zA-Z_:][a-zA-Z0-9_:]*`, all else becomes `_`.
#[must_use]
pub fn legal_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' };
    let name: String = name.chars().map(legal).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        return format!("_{name}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_together_and_labels_escaped() {
        let mut exposition = Exposition::default();
        exposition.family("b_total", Kind::Counter, "Bs.\nAll");
        exposition.family("a", Kind::Gauge, "As");
        exposition.sample("b_total", &[("of", "a\"b\\c\nd"), ("and", "")], 1);
        exposition.sample("a", &[], 0.5);
        exposition.sample("b_total", &[("of", "e")], 2);
        exposition.family("a", Kind::Counter, "another");
        assert_eq!(exposition.kind_of("a"), Some(Kind::Gauge));
        assert_eq!(
            exposition.text(),
            "# HELP a As\n# TYPE a gauge\na 0.5\n\
             # HELP b_total Bs.\\nAll\n# TYPE b_total counter\n\
             b_total{of=\"a\\\"b\\\\c\\nd\",and=\"\"} 1\nb_total{of=\"e\"} 2\n"
        );
    }

    #[test]
    fn histograms_have_their_parts() {
        let mut exposition = Exposition::default();
        exposition.family("h", Kind::Histogram, "Hs");
        exposition.histogram("h", &[("x", "y")], [(Some(1), 2), (None, 3)].into_iter(), 7);
        let text = exposition.text();
        let samples: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            samples,
            [
                "h_bucket{x=\"y\",le=\"1\"} 2",
                "h_bucket{x=\"y\",le=\"+Inf\"} 3",
                "h_sum{x=\"y\"} 7",
                "h_count{x=\"y\"} 3"
            ]
        );
    }

    #[test]
    fn names_become_legal() {
        for (name, wanted) in [
            ("requests_total", "requests_total"),
            ("istio_requests;.;source=a.b;.;", "istio_requests___source_a_b___"),
            ("2xx", "_2xx"),
            ("", "_"),
            ("größe", "gr__e"),
        ] {
            assert_eq!(legal_name(name), wanted);
        }
    }
}
