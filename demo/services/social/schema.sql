-- The social app promotes and nothing else: short videos, and where each one leads.

CREATE TABLE promotions (
    promo_id   integer PRIMARY KEY,
    creator    text NOT NULL,
    caption    text NOT NULL,
    clip       text NOT NULL,
    shop_id    bigint NOT NULL,
    product_id bigint NOT NULL,
    likes      integer NOT NULL,
    in_feed    boolean NOT NULL DEFAULT true
);
