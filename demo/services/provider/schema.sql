-- The payment provider's own record: one row a charge, whoever asked for it.

CREATE TABLE charges (
    order_id           text PRIMARY KEY,
    idempotency_key    text UNIQUE,
    account            text NOT NULL,
    transaction_id     uuid NOT NULL DEFAULT gen_random_uuid(),
    payment_type       text NOT NULL CHECK (payment_type IN ('bank_transfer', 'qris')),
    gross_amount       bigint NOT NULL CHECK (gross_amount > 0),
    va_number          text,
    qr_string          text,
    transaction_status text NOT NULL DEFAULT 'pending' CHECK (transaction_status IN ('pending', 'settlement')),
    notification_url   text,
    transaction_time   timestamptz NOT NULL DEFAULT now(),
    settlement_time    timestamptz,
    notified_at        timestamptz
);
