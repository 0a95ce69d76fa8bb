//! How often the controller is told.

use std::sync::Arc;

use engine_dma::Pool;
use engine_nvme::testing::{Mock, MockOptions};
use engine_nvme::{Controller, DriverOptions, Run};
use engine_transport::{Transport, TransportMemory};

#[test]
fn ten_reads_and_one_ring_are_one_doorbell() {
    let mock = Mock::new(MockOptions { disk: vec![5; 1 << 20], ..MockOptions::default() });
    let transport: Arc<dyn Transport> = mock.clone();
    let controller = Controller::open(Arc::clone(&transport), DriverOptions::default()).unwrap();
    let mut pair = controller.pair().unwrap();
    let buffer = Pool::of(Arc::new(TransportMemory(transport)), 1 << 16, 1).take(40_960).unwrap();
    let iova = buffer.arena().registration().unwrap().handle;
    for round in 1..=30 {
        let before = mock.doorbells_written();
        for token in 0..10 {
            let run = Run { iova: iova + token * 4096, length: 4096 };
            pair.read(token, 1, token * 8, 8, run).unwrap();
        }
        assert_eq!(mock.doorbells_written(), before, "round {round}: nobody is told of each command");
        pair.ring();
        assert_eq!(mock.doorbells_written(), before + 1, "round {round}");
        pair.ring();
        assert_eq!(mock.doorbells_written(), before + 1, "round {round}: there is nothing new");
        let mut ended = Vec::new();
        assert_eq!(pair.reap(10, |completed| ended.push(completed.token)), 10);
        assert_eq!(ended, (0..10).collect::<Vec<_>>());
        assert!(mock.doorbells_written() <= before + 2, "round {round}: nor of each completion");
    }
    assert!(buffer.iter().all(|&byte| byte == 5));
}
