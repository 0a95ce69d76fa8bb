//! The commands of the admin queue (Base, section 5).

mod queues;
mod shadow;

use std::time::Duration;

use engine_block::Operation;
use engine_dma::to_usize;
use engine_nvme_spec::identify::Cns;
use engine_nvme_spec::{AdminOpcode, FeatureId, LogPage, Select, Sqe, Status, feature};

pub(crate) use queues::QueueTable;
pub(crate) use shadow::ShadowDoorbells;

use crate::backing::Memory;
use crate::commands::Done;
use crate::controller::Inner;
use crate::processor::Processor;
use crate::subsystem::{GetFeature, IdentifyRequest, LogRequest, SetFeature, feature_data_length};

/// Longest part of a log page that is answered at a time.
const LOG_MOST: u64 = 1 << 20;

impl Inner {
    /// Works on the admin queue once; whether there was anything to do.
    pub(crate) fn work_on_admin(&self) -> bool {
        let mut admin = self.admin.lock();
        let mut worked = admin.round_of(&self.shared, Duration::ZERO, |admin, _, sqe| {
            let done = self.carry_out(admin, sqe).unwrap_or_else(Done::from);
            if let Done::Now(status, _) = done
                && !status.is_success()
            {
                tracing::debug!(opcode = ?AdminOpcode(sqe.opcode), %status, "an admin command failed");
            }
            done
        });
        while self.shared.state.events().is_ready() && admin.has_room(&self.shared, 0, 0) {
            let Some((cid, event)) = self.shared.state.events().take() else { break };
            admin.answer_later(&self.shared, 0, cid, Status::SUCCESS, event.to_dword());
            worked = true;
        }
        if worked {
            self.ask_for_the_admin_register(&admin);
        }
        worked
    }

    fn carry_out(&self, admin: &mut Processor, sqe: &Sqe) -> Result<Done, Status> {
        // On PCI Express admin commands use PRPs (Base, section 4.1.1).
        if sqe.psdt() != 0 || sqe.fuse() != 0 {
            return Err(Status::INVALID_FIELD.final_());
        }
        let state = &self.shared.state;
        match AdminOpcode(sqe.opcode) {
            AdminOpcode::CREATE_COMPLETION_QUEUE => self.create_completion_queue(admin, sqe).map(Done::from),
            AdminOpcode::CREATE_SUBMISSION_QUEUE => self.create_submission_queue(admin, sqe).map(Done::from),
            AdminOpcode::DELETE_COMPLETION_QUEUE => self.delete_completion_queue(sqe).map(Done::from),
            AdminOpcode::DELETE_SUBMISSION_QUEUE => self.delete_submission_queue(sqe).map(Done::from),
            AdminOpcode::IDENTIFY => self.identify(admin, sqe).map(Done::from),
            AdminOpcode::GET_LOG_PAGE => self.log_page(admin, sqe).map(Done::from),
            AdminOpcode::SET_FEATURES => self.set_feature(admin, sqe),
            AdminOpcode::GET_FEATURES => self.get_feature(admin, sqe),
            AdminOpcode::ABORT => Ok(self.abort(admin, sqe)),
            AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST => {
                state.events().request(sqe.cid.get()).map(|()| Done::Later)
            }
            AdminOpcode::DOORBELL_BUFFER_CONFIG if self.shared.facts.shadow_doorbells => {
                self.configure_shadow(admin, sqe).map(Done::from)
            }
            _ => Err(Status::INVALID_OPCODE.final_()),
        }
    }

    /// Where an admin command's data goes or comes from.
    fn data<'a>(
        &self,
        admin: &'a mut Processor,
        sqe: &Sqe,
        length: u64,
        to_host: bool,
    ) -> Result<Memory<'a>, Status> {
        admin.runs.resolve(&mut admin.view, sqe, length, self.shared.page(), to_host)?;
        Ok(Memory::new(&mut admin.view, &admin.runs))
    }

    fn identify(&self, admin: &mut Processor, sqe: &Sqe) -> Result<Status, Status> {
        let [cns, _, cntid_low, cntid_high] = sqe.cdw10.get().to_le_bytes();
        let [_, _, _, csi] = sqe.cdw11.get().to_le_bytes();
        let request = IdentifyRequest {
            cns: Cns(cns),
            nsid: sqe.nsid.get(),
            controller: u16::from_le_bytes([cntid_low, cntid_high]),
            csi,
        };
        let shared = &self.shared;
        let page = shared.subsystem.identify(&shared.state, &request, &shared.facts)?;
        self.data(admin, sqe, engine_dma::to_u64(page.len()), true)?.write(&*page)?;
        Ok(Status::SUCCESS)
    }

    fn log_page(&self, admin: &mut Processor, sqe: &Sqe) -> Result<Status, Status> {
        let dword = sqe.cdw10.get();
        let [page, ..] = dword.to_le_bytes();
        let dwords = u64::from(dword >> 16) | u64::from(sqe.cdw11.get() & 0xffff) << 16;
        let length = (dwords + 1) * 4;
        if length > LOG_MOST.min(self.shared.options.transfer_most()) {
            return Err(Status::INVALID_FIELD.final_());
        }
        let offset = u64::from(sqe.cdw12.get()) | u64::from(sqe.cdw13.get()) << 32;
        let request = LogRequest {
            page: LogPage(page),
            nsid: sqe.nsid.get(),
            retain: dword & 1 << 15 != 0,
            offset,
            length,
            by_index: sqe.cdw14.get() & 1 << 23 != 0,
            csi: sqe.cdw14.get().to_le_bytes()[3],
        };
        // The memory first: a page that was read counts as read.
        self.data(admin, sqe, length, true)?.check(engine_dma::Access::ReadWrite)?;
        let shared = &self.shared;
        let mut bytes = shared.subsystem.log_page(&shared.state, &request, &shared.facts)?;
        bytes.resize(to_usize(length), 0);
        self.data(admin, sqe, length, true)?.write(&bytes)?;
        Ok(Status::SUCCESS)
    }

    fn set_feature(&self, admin: &mut Processor, sqe: &Sqe) -> Result<Done, Status> {
        let [id, ..] = sqe.cdw10.get().to_le_bytes();
        let (id, value) = (FeatureId(id), sqe.cdw11.get());
        let mut data = vec![0; feature_data_length(id, value)];
        if !data.is_empty() {
            self.data(admin, sqe, engine_dma::to_u64(data.len()), false)?.read(&mut data)?;
        }
        let shared = &self.shared;
        let save = sqe.cdw10.get() & feature::SAVE != 0;
        let has_queues = self.queues.lock().has_io_queues();
        let command = SetFeature { id, save, nsid: sqe.nsid.get(), value, data: &data, has_queues };
        let dword = shared.subsystem.set_feature(&shared.state, &command, &shared.facts)?;
        if id == FeatureId::WRITE_PROTECTION {
            admin.look(shared);
            admin.step(sqe.nsid.get(), Operation::Flush, 0, 0, None)?;
        }
        Ok(Done::Now(Status::SUCCESS, dword))
    }

    fn get_feature(&self, admin: &mut Processor, sqe: &Sqe) -> Result<Done, Status> {
        let [id, select, ..] = sqe.cdw10.get().to_le_bytes();
        let command = GetFeature {
            id: FeatureId(id),
            select: Select(select & 7),
            nsid: sqe.nsid.get(),
            value: sqe.cdw11.get(),
        };
        let shared = &self.shared;
        let answer = shared.subsystem.get_feature(&shared.state, &command, &shared.facts)?;
        if !answer.data.is_empty() {
            self.data(admin, sqe, engine_dma::to_u64(answer.data.len()), true)?.write(&answer.data)?;
        }
        Ok(Done::Now(Status::SUCCESS, answer.dword))
    }

    /// Abort: what is held back or waits for an event can be; what a backing works on cannot.
    fn abort(&self, admin: &mut Processor, sqe: &Sqe) -> Done {
        let [sq_low, sq_high, cid_low, cid_high] = sqe.cdw10.get().to_le_bytes();
        let (sq_id, cid) = (u16::from_le_bytes([sq_low, sq_high]), u16::from_le_bytes([cid_low, cid_high]));
        // The one command of the admin queue that can be waiting is a request for an event.
        if sq_id == 0 {
            // The Abort itself is answered, too.
            let aborted = admin.has_room(&self.shared, 0, 1) && self.shared.state.events().abort(cid);
            if aborted {
                admin.answer_later(&self.shared, 0, cid, Status::ABORT_REQUESTED, 0);
            }
            return Done::Now(Status::SUCCESS, u32::from(!aborted));
        }
        let aborted = match self.completion_queue_of(sq_id).and_then(|queue| self.slot(queue)) {
            Some(slot) => slot.lock().abort(&self.shared, sq_id, cid),
            None => false,
        };
        // Bit 0 says that it was not.
        Done::Now(Status::SUCCESS, u32::from(!aborted))
    }
}
