//! What others do to the packet rules.

use std::collections::BTreeSet;

use coracle_nft::Family;
use tokio::sync::mpsc;

/// Reports that wait for whoever asked; more are told as one [`Touched::Unknown`].
const REPORTS_MAX: usize = 64;

/// One or more transactions that were not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// These tables of the families we use, or none of them.
    Tables(BTreeSet<(Family, String)>),
    /// Anything may have happened: reports were lost.
    Unknown,
}

impl Touched {
    /// Whether the table is known to be touched.
    #[must_use]
    pub fn names(&self, family: Family, table: &str) -> bool {
        match self {
            Self::Tables(tables) => tables.iter().any(|(other, name)| *other == family && name == table),
            Self::Unknown => false,
        }
    }
}

/// Tells of transactions that were not ours.
#[derive(Debug)]
pub struct Meddling(Option<mpsc::Receiver<Touched>>);

impl Meddling {
    /// Never tells anything.
    #[must_use]
    pub fn never() -> Self {
        Self(None)
    }

    #[must_use]
    pub fn channel() -> (mpsc::Sender<Touched>, Self) {
        let (sender, receiver) = mpsc::channel(REPORTS_MAX);
        (sender, Self(Some(receiver)))
    }

    /// The next report. Waits for ever when there is nobody who could tell.
    pub async fn next(&mut self) -> Touched {
        if let Some(receiver) = &mut self.0
            && let Some(first) = receiver.recv().await
        {
            let mut all = first;
            while let Ok(more) = receiver.try_recv() {
                all = match (all, more) {
                    (Touched::Tables(mut tables), Touched::Tables(more)) => {
                        tables.extend(more);
                        Touched::Tables(tables)
                    }
                    _ => Touched::Unknown,
                };
            }
            return all;
        }
        std::future::pending().await
    }
}
