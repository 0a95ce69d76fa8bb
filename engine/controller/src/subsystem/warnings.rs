//! Warnings and temperature: what changes them, and who is told (Base, section 5.1.2.1).

use engine_nvme_spec::Event;

use super::smart::warning;
use super::{ControllerState, Subsystem};

impl Subsystem {
    /// Sets the critical warnings (see [`warning`]) that hold from now on; those that are new are told to hosts that
    /// want to hear of them. The bit of the temperature follows the temperature and is left alone.
    pub fn set_warnings(&self, bits: u8) {
        let news = self.health().set_warnings(bits);
        for controller in self.controllers() {
            let told = controller.features.warnings_told(news);
            if told & warning::SPARE != 0 {
                controller.events.raise(Event::SPARE);
            }
            if told & !warning::SPARE != 0 {
                controller.events.raise(Event::RELIABILITY);
            }
        }
    }

    /// Sets the temperature in Kelvin; hosts whose threshold it crosses are told.
    pub fn set_temperature(&self, kelvin: u16) {
        self.health().set_temperature(kelvin);
        for controller in self.controllers() {
            self.look_at_temperature(&controller);
        }
    }

    /// Raises the event of a temperature that is beyond a threshold of the controller.
    pub(crate) fn look_at_temperature(&self, controller: &ControllerState) {
        if controller.features.look_at_temperature(self.health().temperature()) {
            controller.events.raise(Event::TEMPERATURE);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine_nvme_spec::LogPage;

    use super::super::testing::subsystem;
    use super::super::{ControllerFacts, LogRequest};
    use super::*;

    fn health_page(subsystem: &Subsystem, controller: &ControllerState) -> Vec<u8> {
        let request = LogRequest {
            page: LogPage::SMART,
            nsid: 0,
            retain: false,
            offset: 0,
            length: 512,
            by_index: false,
            csi: 0,
        };
        subsystem.log_page(controller, &request, &ControllerFacts::default()).unwrap()
    }

    #[test]
    fn warnings_and_temperature_raise_the_events_that_the_host_wants() {
        let subsystem = subsystem();
        let controller = subsystem.attach_controller().unwrap();
        for cid in 0..4 {
            controller.events().request(cid).unwrap();
        }
        subsystem.set_warnings(warning::SPARE);
        assert_eq!(controller.events().take(), Some((0, Event::SPARE)));
        assert_eq!(health_page(&subsystem, &controller)[0], warning::SPARE);
        subsystem.set_warnings(warning::SPARE | warning::READ_ONLY);
        assert_eq!(controller.events().take(), Some((1, Event::RELIABILITY)));
        health_page(&subsystem, &controller);
        controller.features.change(|values| values.over = 350);
        subsystem.set_temperature(360);
        assert_eq!(controller.events().take(), Some((2, Event::TEMPERATURE)));
        let page = health_page(&subsystem, &controller);
        assert_eq!((page[0], u16::from_le_bytes([page[1], page[2]])), (0b1011, 360));
    }
}
