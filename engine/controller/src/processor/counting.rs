//! Counting what queues that are counted did, and how long it took.

use engine_dma::to_usize;
use engine_nvme_spec::Status;

use super::{Pending, Processor};
use crate::tally::{Late, Tally};

impl Processor {
    /// Nanoseconds since this processor was made.
    pub(super) fn clock(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    pub(super) fn tally_of(&self, nsid: u32) -> Option<&Tally> {
        let place = to_usize(u64::from(nsid)).checked_sub(1)?;
        self.served.get(place)?.as_ref()?.tally.as_deref()
    }

    /// Counts what a batch of one queue did at once. Its commands were carried out one after another, so each took its
    /// share of the time that the batch took.
    pub(super) fn count_batch(&mut self, tally: &Tally) {
        let commands = self.batch.commands();
        if commands == 0 {
            return;
        }
        let each = self.clock().saturating_sub(self.fetched) / commands;
        for group in self.batch.groups() {
            tally.count(group.commands, group.bytes, each);
            if let Some(of_backing) = self.tally_of(group.nsid) {
                of_backing.count(group.commands, group.bytes, each);
            }
        }
        self.batch.clear();
    }

    /// Counts a command whose backing took its time, by the moment at which it was heard that it is over.
    pub(super) fn count_late(&mut self, pending: &Pending, status: Status) {
        let Some(place) = self.place_of(pending.sq_id) else { return };
        let Some(queue) = self.submission_queues.get(place) else { return };
        let Some(tally) = &queue.tally else { return };
        if self.collected == 0 {
            self.collected = self.clock();
        }
        let taken = self.collected.saturating_sub(pending.fetched);
        let bytes = if status.is_success() { pending.bytes } else { 0 };
        tally.count(1, bytes, taken);
        if let Some(of_backing) = self.tally_of(pending.nsid) {
            of_backing.count(1, bytes, taken);
        }
    }

    pub(super) fn count_failure(&self, sq_id: u16, nsid: u32, status: Status) {
        let queue = self.submission_queues.iter().find(|queue| queue.id == sq_id);
        let Some(tally) = queue.and_then(|queue| queue.tally.as_deref()) else { return };
        tally.fail(status);
        if let Some(of_backing) = self.tally_of(nsid) {
            of_backing.fail(status);
        }
    }

    /// Notes a command that succeeded; those that are alike are counted together.
    #[inline]
    pub(super) fn note_late(&mut self, pending: &Pending) {
        let Pending { sq_id, nsid, fetched, bytes, .. } = *pending;
        match &mut self.alike {
            Some(late) if (late.sq_id, late.nsid, late.fetched) == (sq_id, nsid, fetched) => {
                late.commands += 1;
                late.bytes += bytes;
            }
            _ => {
                self.count_alike();
                self.alike = Some(Late { sq_id, nsid, fetched, commands: 1, bytes });
            }
        }
    }

    /// Counts those that were noted.
    pub(super) fn count_alike(&mut self) {
        let Some(late) = self.alike.take() else { return };
        let Some(place) = self.place_of(late.sq_id) else { return };
        if self.collected == 0 {
            self.collected = self.clock();
        }
        let taken = self.collected.saturating_sub(late.fetched);
        if let Some(tally) = self.submission_queues.get(place).and_then(|queue| queue.tally.as_ref()) {
            tally.count(late.commands, late.bytes, taken);
        }
        if let Some(of_backing) = self.tally_of(late.nsid) {
            of_backing.count(late.commands, late.bytes, taken);
        }
    }
}
