//! Data through many queues at once, compared with a model.

mod host;

use engine_controller::ControllerOptions;
use engine_nvme_spec::{Status, nvm};
use host::{Host, pattern};

const QUEUES: u16 = 8;
/// Blocks that belong to one queue.
const BLOCKS: u64 = 2048;

#[test]
fn data_through_eight_queues_of_two_threads_is_what_a_model_says() {
    let options = ControllerOptions { threads: 2, ..ControllerOptions::default() };
    let (mut host, backing) = Host::ready_with(options);
    for queue in 2..=QUEUES {
        host.create_pair(queue, 32);
    }
    let mut model = vec![0_u8; 16 << 20];
    let mut random = pattern(42, 64 << 10).into_iter();
    let mut next = |below: u64| {
        let bytes: Vec<u8> = random.by_ref().take(4).collect();
        u64::from(u32::from_le_bytes(bytes.try_into().unwrap())) % below
    };
    let buffers: Vec<u64> = (0..64).map(|_| host.memory.take(20480)).collect();
    for round in 0..60_u64 {
        let write = round % 3 != 2;
        let mut commands = Vec::new();
        for place in 0..16_u64 {
            let queue = u16::try_from(place % u64::from(QUEUES)).unwrap() + 1;
            let blocks = u16::try_from(next(16)).unwrap() + 1;
            // Two commands of a queue in flight never touch the same blocks.
            let half = BLOCKS / 2 * (place / u64::from(QUEUES));
            let first = u64::from(queue - 1) * BLOCKS + half + next(BLOCKS / 2 - 16);
            let length = usize::from(blocks) * 512;
            let at = buffers[usize::try_from(place).unwrap()] + next(1024) * 4;
            // Pages that follow each other; the second entry is one, or leads to a list.
            let page = (at & !0xfff) + 4096;
            let pages = (at - (at & !0xfff) + u64::try_from(length).unwrap()).div_ceil(4096);
            let second = if pages > 2 {
                let list = buffers[usize::try_from(place).unwrap() + 32];
                for entry in 0..pages - 1 {
                    host.memory.write(list + entry * 8, &(page + entry * 4096).to_le_bytes());
                }
                list
            } else {
                page
            };
            let from = usize::try_from(first).unwrap() * 512;
            if write {
                let bytes = pattern(round * 100 + place, length);
                host.memory.write(at, &bytes);
                model[from..from + length].copy_from_slice(&bytes);
                host.submit(queue, nvm::write(1, first, blocks.into()).with_prps(at, second));
            } else {
                host.submit(queue, nvm::read(1, first, blocks.into()).with_prps(at, second));
                commands.push((at, from, length));
            }
        }
        for place in 0..16_u16 {
            let entry = host.wait(place % QUEUES + 1);
            assert_eq!(Status(entry.status().0 & Status::CODE), Status::SUCCESS, "round {round}: {entry:?}");
        }
        for (at, from, length) in commands {
            assert!(host.memory.read(at, length) == model[from..from + length], "round {round}, byte {from}");
        }
    }
    let mut stored = vec![0; model.len()];
    backing.region().read(0, &mut stored).unwrap();
    assert!(stored == model);
}
