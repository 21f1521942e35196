//! Work queues, backoff and carrying out of plans.
