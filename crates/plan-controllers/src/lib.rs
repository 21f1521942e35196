//! One decider per controller.
