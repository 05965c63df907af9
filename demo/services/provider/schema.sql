-- The payment provider's own records: charges and refunds, what it has told about them, and answers under a key.

CREATE TABLE charges (
    order_id           text PRIMARY KEY,
    account            text NOT NULL,
    transaction_id     uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    payment_type       text NOT NULL CHECK (payment_type IN ('bank_transfer', 'qris')),
    gross_amount       bigint NOT NULL CHECK (gross_amount > 0),
    va_number          text,
    qr_string          text,
    transaction_status text NOT NULL DEFAULT 'pending' CHECK (transaction_status IN (
                           'pending', 'settlement', 'partial_refund', 'refund', 'cancel', 'expire')),
    notification_url   text,
    transaction_time   timestamptz NOT NULL DEFAULT now(),
    paid_by            timestamptz, -- when the buyer will have paid
    settlement_time    timestamptz
);

CREATE TABLE refunds (
    refund_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id   text NOT NULL REFERENCES charges,
    refund_key text NOT NULL,
    amount     bigint NOT NULL CHECK (amount > 0),
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (order_id, refund_key)
);

CREATE TABLE notices (
    notice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id  text NOT NULL REFERENCES charges,
    body      json NOT NULL, -- as it was when it happened; it is sent like this for ever
    lost      boolean NOT NULL,
    taken_at  timestamptz
);

CREATE TABLE answers (
    account         text NOT NULL,
    idempotency_key text NOT NULL,
    body            json NOT NULL,
    given_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, idempotency_key)
);
