//! The structures of Identify and the log pages, as whatever a controller may send.

use engine_nvme_spec::identify::{IdentifyController, IdentifyNamespace, SIZE, descriptors};
use engine_nvme_spec::{Cqe, ErrorEntry, Event, SmartLog, Sqe, Status};
use zerocopy::{FromBytes, IntoBytes};

/// Takes bytes apart in every way; how many structures that were.
pub(crate) fn check(bytes: &[u8]) -> usize {
    let mut page = [0; SIZE];
    for (place, byte) in page.iter_mut().zip(bytes.iter().cycle()) {
        *place = *byte;
    }
    identify(&page);
    entries(&page);
    4
}

fn identify(page: &[u8; SIZE]) {
    let controller = IdentifyController::read_from_bytes(page).expect("every page is one");
    assert_eq!(controller.as_bytes(), page);
    let namespace = IdentifyNamespace::read_from_bytes(page).expect("every page is one");
    assert_eq!(namespace.as_bytes(), page);
    assert!(namespace.format_index() < 64);
    if let Some(format) = namespace.format() {
        assert_eq!(format, namespace.lbaf[usize::from(namespace.format_index())]);
    }
    let length: usize = descriptors(page).map(|(_, identifier)| 4 + identifier.len()).sum();
    assert!(length <= SIZE, "descriptors of {length} bytes in a page");
}

fn entries(page: &[u8; SIZE]) {
    for bytes in page.chunks_exact(64) {
        let sqe = Sqe::read_from_bytes(bytes).expect("64 bytes are an entry");
        assert_eq!(Sqe::from_words(sqe.to_words()), sqe);
        let _ = (sqe.data(), sqe.fuse(), format!("{sqe:?}"));
        let error = ErrorEntry::read_from_bytes(bytes).expect("64 bytes are an entry");
        assert_eq!(error.as_bytes(), bytes);
    }
    for bytes in page.chunks_exact(16) {
        let cqe = Cqe::read_from_bytes(bytes).expect("16 bytes are an entry");
        assert_eq!(Cqe::from_words(cqe.to_words()), cqe);
        assert_eq!(Cqe::pack(cqe.status(), cqe.phase()), cqe.status_and_phase);
        let status = cqe.status();
        let _ = format!("{status} {:?}", status.kind());
        assert!(status.is(Status(status.0 & Status::CODE)));
        let event = Event::from_dword(cqe.dw0.get());
        assert_eq!(Event::from_dword(event.to_dword()), event);
    }
    let smart = SmartLog::read_from_bytes(&page[..512]).expect("512 bytes are a page");
    assert_eq!(smart.as_bytes(), &page[..512]);
}
