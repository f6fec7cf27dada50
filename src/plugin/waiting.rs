//! Messages of exchanges that wait, where plugins can reach them.
//!
//! ```text
//! exchange ── nothing to do ─► parks its message on its seat ─┐
//!    ▲                                                        ├─ a guest's other callback reads,
//!    └── something happened, or it was asked ◄── unparks ◄────┘  edits, asks
//! ```

use super::Message;
use std::any::Any;
use std::cell::RefCell;
use std::task::Waker;

/// One plugin's stream among all of a worker: it never names another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey {
    seat: u32,
    generation: u32,
    step: u16,
}

/// What is asked of a waiting exchange in the name of one of its plugins.
#[derive(Debug)]
pub enum Ask {
    /// Let the request go on where this plugin holds it.
    ResumeRequest,
    /// Let the response go on where this plugin holds it.
    ResumeResponse,
    /// Answer with [`Message::local`].
    Respond,
    /// Close the downstream connection.
    Close,
    /// Call [`Plugin::on_reply`](super::Plugin::on_reply) with this.
    Reply(Reply),
    /// Call [`Plugin::on_lost`](super::Plugin::on_lost), if it holds something back.
    Lost,
}

/// What a plugin waited for; of a type that it knows.
pub type Reply = Box<dyn Any>;

/// The seats of all exchanges of a worker.
#[derive(Debug, Default)]
pub struct Waiting {
    seats: RefCell<Vec<Seat>>,
}

#[derive(Debug, Default)]
struct Seat {
    /// Counts the exchanges that sat here.
    generation: u32,
    /// The waiting message; while it does not wait, a spare one.
    message: Box<Message>,
    parked: bool,
    asks: Vec<(u16, Ask)>,
    waker: Option<Waker>,
}

impl Waiting {
    /// A seat of one's own, for as long as the worker runs.
    pub fn new_seat(&self) -> u32 {
        let mut seats = self.seats.borrow_mut();
        seats.push(Seat::default());
        (seats.len() - 1) as u32
    }

    /// A new exchange sits down: older keys of the seat are void.
    pub fn sit(&self, seat: u32) -> StreamKey {
        let seats = &mut *self.seats.borrow_mut();
        let place = &mut seats[seat as usize];
        debug_assert!(!place.parked);
        place.generation = place.generation.wrapping_add(1);
        place.asks.clear();
        StreamKey { seat, generation: place.generation, step: 0 }
    }

    /// The exchange is over: what is asked of it from now on is void.
    pub fn leave(&self, key: StreamKey) {
        let seats = &mut *self.seats.borrow_mut();
        let place = &mut seats[key.seat as usize];
        place.generation = place.generation.wrapping_add(1);
        place.asks.clear();
    }

    /// The exchange has nothing to do: its message can be reached until [`Waiting::unpark`], and
    /// `waker` tells it that somebody asked.
    pub fn park(&self, key: StreamKey, message: &mut Box<Message>, waker: &Waker) {
        let seats = &mut *self.seats.borrow_mut();
        let place = &mut seats[key.seat as usize];
        if !std::mem::replace(&mut place.parked, true) {
            std::mem::swap(&mut place.message, message);
        }
        if !place.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            place.waker = Some(waker.clone());
        }
    }

    /// The exchange takes its message back, if it had parked it.
    pub fn unpark(&self, key: StreamKey, message: &mut Box<Message>) {
        let seats = &mut *self.seats.borrow_mut();
        let place = &mut seats[key.seat as usize];
        if std::mem::take(&mut place.parked) {
            std::mem::swap(&mut place.message, message);
        }
    }

    /// Swaps a waiting message with `other`, or tells that the exchange does not wait. Whoever
    /// borrows it so swaps it back before the worker goes on.
    pub fn swap(&self, key: StreamKey, other: &mut Box<Message>) -> bool {
        let seats = &mut *self.seats.borrow_mut();
        let Some(place) = current(seats, key).filter(|place| place.parked) else { return false };
        std::mem::swap(&mut place.message, other);
        true
    }

    /// Asks something of an exchange and wakes it. Void if it is over.
    pub fn ask(&self, key: StreamKey, ask: Ask) {
        let seats = &mut *self.seats.borrow_mut();
        let Some(place) = current(seats, key) else { return };
        place.asks.push((key.step, ask));
        if let Some(waker) = &place.waker {
            waker.wake_by_ref();
        }
    }

    /// Delivers what a plugin waited for.
    pub fn reply(&self, key: StreamKey, reply: Reply) {
        self.ask(key, Ask::Reply(reply));
    }

    /// Whether the exchange of that key still runs.
    #[must_use]
    pub fn is_current(&self, key: StreamKey) -> bool {
        current(&mut self.seats.borrow_mut(), key).is_some()
    }

    /// Whether something was asked of the exchange.
    #[must_use]
    pub fn is_asked(&self, key: StreamKey) -> bool {
        !self.seats.borrow()[key.seat as usize].asks.is_empty()
    }

    /// The oldest thing asked, and of which step of the chain.
    pub fn take_ask(&self, key: StreamKey) -> Option<(u16, Ask)> {
        let seats = &mut *self.seats.borrow_mut();
        let asks = &mut seats[key.seat as usize].asks;
        (!asks.is_empty()).then(|| asks.remove(0))
    }
}

impl StreamKey {
    /// Which step of the chain it is.
    #[must_use]
    pub fn step(self) -> u16 {
        self.step
    }

    /// The same exchange's, for another plugin of its chain.
    #[must_use]
    pub fn of_step(self, step: usize) -> Self {
        Self { step: step as u16, ..self }
    }
}

fn current(seats: &mut [Seat], key: StreamKey) -> Option<&mut Seat> {
    seats.get_mut(key.seat as usize).filter(|place| place.generation == key.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &[u8]) -> Box<Message> {
        let mut message = Box::new(Message::default());
        message.request.method = name.to_vec();
        message
    }

    #[test]
    fn a_message_can_be_reached_while_it_is_parked() {
        let waiting = Waiting::default();
        let key = waiting.sit(waiting.new_seat());
        let (mut own, mut visitor) = (named(b"OWN"), named(b"VISITOR"));
        assert!(!waiting.swap(key, &mut visitor), "it does not wait yet");
        waiting.park(key, &mut own, Waker::noop());
        assert!(waiting.swap(key, &mut visitor));
        assert_eq!(visitor.request.method, b"OWN");
        visitor.request.method = b"EDITED".to_vec();
        assert!(waiting.swap(key, &mut visitor));
        waiting.unpark(key, &mut own);
        assert_eq!(own.request.method, b"EDITED");
        assert!(!waiting.swap(key, &mut visitor));
        waiting.unpark(key, &mut own);
        assert_eq!(own.request.method, b"EDITED", "unparking twice does no harm");
    }

    #[test]
    fn asks_come_in_order_and_end_with_the_exchange() {
        let waiting = Waiting::default();
        let seat = waiting.new_seat();
        let key = waiting.sit(seat);
        waiting.ask(key.of_step(3), Ask::ResumeRequest);
        waiting.ask(key.of_step(1), Ask::Respond);
        assert!(waiting.is_asked(key));
        assert!(matches!(waiting.take_ask(key), Some((3, Ask::ResumeRequest))));
        assert!(matches!(waiting.take_ask(key), Some((1, Ask::Respond))));
        assert!(waiting.take_ask(key).is_none());
        waiting.ask(key, Ask::Close);
        waiting.leave(key);
        waiting.ask(key, Ask::Close);
        let next = waiting.sit(seat);
        assert!(!waiting.is_asked(next) && !waiting.is_current(key) && waiting.is_current(next));
    }
}
