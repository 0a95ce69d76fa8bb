//! Namespaces that appear, change and go while a host uses the controller.

mod host;

use std::sync::Arc;

use engine_controller::backing::{Backing, MemoryBacking};
use engine_controller::{ControllerOptions, NamespaceOptions};
use engine_nvme_spec::{Event, LogPage, Status, admin, nvm};
use host::{Host, memory_subsystem, pattern};

#[test]
fn namespace_that_appears_is_told_and_served_and_one_that_goes_is_gone() {
    for threads in [0, 2] {
        let (subsystem, _) = memory_subsystem(1 << 20);
        let options = ControllerOptions { threads, ..ControllerOptions::default() };
        let mut host = Host::new(options, Arc::clone(&subsystem));
        host.enable();
        host.create_pair(1, 16);
        let at = host.memory.take(4096);
        let read = |nsid| nvm::read(nsid, 0, 8).with_prps(at, 0);
        let notice = |host: &mut Host| {
            let entry = host.wait(0);
            assert_eq!(Event::from_dword(entry.dw0.get()), Event::NAMESPACE_CHANGED);
            let page = host.memory.take(4096);
            let sqe = admin::get_log_page(LogPage::CHANGED_NAMESPACES, u32::MAX, 0, 4096, false);
            host.admin_ok(sqe.with_prps(page, 0));
            assert_eq!(host.memory.read(page, 8), [2, 0, 0, 0, 0, 0, 0, 0]);
        };
        host.submit(0, admin::asynchronous_event_request());
        assert_eq!(host.code(1, read(2)), Status::INVALID_NAMESPACE);
        let backing = MemoryBacking::new(8192).unwrap();
        backing.region().write(0, &pattern(5, 8192)).unwrap();
        let shared: Arc<dyn Backing> = Arc::new(backing.clone());
        let options = NamespaceOptions { nsid: Some(2), ..NamespaceOptions::new(Arc::clone(&shared)) };
        subsystem.add_namespace(options).unwrap();
        notice(&mut host);
        host.io_ok(read(2));
        assert!(host.memory.read(at, 4096) == pattern(5, 8192)[..4096]);

        host.submit(0, admin::asynchronous_event_request());
        subsystem.resize_namespace(2, 4).unwrap();
        notice(&mut host);
        assert_eq!(host.code(1, read(2)), Status::LBA_OUT_OF_RANGE);

        host.submit(0, admin::asynchronous_event_request());
        subsystem.remove_namespace(2).unwrap();
        notice(&mut host);
        assert_eq!(host.code(1, read(2)), Status::INVALID_NAMESPACE);

        // The same number, other blocks.
        host.submit(0, admin::asynchronous_event_request());
        backing.region().write(0, &pattern(6, 8192)).unwrap();
        subsystem.add_namespace(NamespaceOptions { nsid: Some(2), ..NamespaceOptions::new(shared) }).unwrap();
        notice(&mut host);
        host.io_ok(read(2));
        assert!(host.memory.read(at, 4096) == pattern(6, 8192)[..4096]);
    }
}
