//! Metrics that plugins define: one table for the process, names are global.

use super::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Metrics of the whole process: guests make names out of requests.
const METRICS_MAX: usize = 65_536;
const NAME_BYTES_MAX: usize = 1_024;

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Sorts values by size.
    Histogram,
}

/// One metric for the exposition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As the plugin named it.
    pub name: String,
    /// Its value now.
    pub value: MetricValue,
}

/// The value of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricValue {
    /// A counter's.
    Counter(u64),
    /// A gauge's.
    Gauge(u64),
    /// A histogram's: how many values of up to `2^i - 1` for each `i` were recorded, and their sum.
    Histogram {
        /// Not cumulative: bucket `i` holds values of `i` binary digits.
        buckets: Vec<u64>,
        /// Sum of all values.
        sum: u64,
    },
}

/// Kinds have names of their own.
type Key = (MetricKind, Box<[u8]>);

/// All metrics.
#[derive(Debug, Default)]
pub(in super::super) struct Metrics {
    ids: Mutex<HashMap<Key, u32>>,
    cells: RwLock<Vec<Arc<Cell>>>,
}

/// A metric as an instance keeps it, so that counting takes no lock.
pub(in super::super) type Handle = Arc<Cell>;

/// The numbers of one metric.
#[derive(Debug)]
pub(in super::super) struct Cell {
    kind: MetricKind,
    name: Box<[u8]>,
    /// The value; a histogram's sum.
    value: AtomicU64,
    /// Of a histogram: one for each number of binary digits, 0 to 64.
    buckets: Box<[AtomicU64]>,
}

impl MetricKind {
    /// The kind of that number in the ABI.
    pub(in super::super) fn from_number(number: u32) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Histogram].get(number as usize).copied()
    }
}

impl Metrics {
    /// The id of a metric, made if it is new: the index times four plus the kind's number, as in
    /// Envoy. None if there are too many or the name is too long.
    pub(in super::super) fn define(&self, kind: MetricKind, name: &[u8]) -> Option<u32> {
        let mut ids = lock(&self.ids);
        if let Some(id) = ids.get(&(kind, Box::from(name))) {
            return Some(*id);
        }
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        if cells.len() >= METRICS_MAX || name.len() > NAME_BYTES_MAX {
            return None;
        }
        let id = (cells.len() as u32) << 2 | kind as u32;
        cells.push(Arc::new(Cell::new(kind, name)));
        ids.insert((kind, name.into()), id);
        Some(id)
    }

    /// The metric of that id.
    pub(in super::super) fn find(&self, id: u32) -> Option<Handle> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let cell = cells.get((id >> 2) as usize)?;
        (cell.kind as u32 == id & 3).then(|| Arc::clone(cell))
    }

    /// All metrics now, in order of definition.
    pub(in super::super) fn all(&self) -> Vec<Metric> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.iter().map(|cell| cell.metric()).collect()
    }
}

impl Cell {
    fn new(kind: MetricKind, name: &[u8]) -> Self {
        let buckets = if kind == MetricKind::Histogram { 65 } else { 0 };
        let buckets = (0..buckets).map(|_| AtomicU64::new(0)).collect();
        Self { kind, name: name.into(), value: AtomicU64::new(0), buckets }
    }

    /// Adds to a counter or moves a gauge; false for anything else. A counter never goes down.
    pub(in super::super) fn increment(&self, delta: i64) -> bool {
        let good = match self.kind {
            MetricKind::Counter => delta > 0,
            MetricKind::Gauge => true,
            MetricKind::Histogram => false,
        };
        if good {
            self.value.fetch_add(delta.cast_unsigned(), Ordering::Relaxed);
        }
        good
    }

    /// Adds to a counter, sets a gauge, sorts into a histogram.
    pub(in super::super) fn record(&self, value: u64) {
        match self.kind {
            MetricKind::Gauge => self.value.store(value, Ordering::Relaxed),
            MetricKind::Counter => _ = self.value.fetch_add(value, Ordering::Relaxed),
            MetricKind::Histogram => {
                self.value.fetch_add(value, Ordering::Relaxed);
                let digits = (u64::BITS - value.leading_zeros()) as usize;
                self.buckets[digits].fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A counter's or gauge's value.
    pub(in super::super) fn get(&self) -> Option<u64> {
        (self.kind != MetricKind::Histogram).then(|| self.value.load(Ordering::Relaxed))
    }

    fn metric(&self) -> Metric {
        let value = self.value.load(Ordering::Relaxed);
        let value = match self.kind {
            MetricKind::Counter => MetricValue::Counter(value),
            MetricKind::Gauge => MetricValue::Gauge(value),
            MetricKind::Histogram => {
                let buckets = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
                MetricValue::Histogram { buckets, sum: value }
            }
        };
        Metric { name: String::from_utf8_lossy(&self.name).into_owned(), value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_behave_differently() {
        let metrics = Metrics::default();
        let define = |kind, name: &str| {
            let id = metrics.define(kind, name.as_bytes()).expect("room");
            assert_eq!(id & 3, kind as u32);
            assert_eq!(
                metrics.define(kind, name.as_bytes()),
                Some(id),
                "the same name, the same id"
            );
            metrics.find(id).expect("defined")
        };
        let counter = define(MetricKind::Counter, "n");
        assert!(counter.increment(2) && !counter.increment(0) && !counter.increment(-1));
        counter.record(3);
        assert_eq!(counter.get(), Some(5));
        let gauge = define(MetricKind::Gauge, "n");
        assert!(gauge.increment(5) && gauge.increment(-2));
        assert_eq!(gauge.get(), Some(3));
        gauge.record(9);
        assert_eq!(gauge.get(), Some(9));
        let histogram = define(MetricKind::Histogram, "n");
        [0, 1, 3, u64::MAX - 4].into_iter().for_each(|value| histogram.record(value));
        assert!(!histogram.increment(1));
        assert_eq!(histogram.get(), None);
        assert!(metrics.find(3).is_none() && metrics.find(u32::MAX).is_none());
        let all = metrics.all();
        assert_eq!(all[0].value, MetricValue::Counter(5));
        let MetricValue::Histogram { buckets, sum } = &all[2].value else { panic!("histogram") };
        assert_eq!((&buckets[..3], buckets[64], *sum), (&[1, 1, 1][..], 1, u64::MAX));
    }
}
