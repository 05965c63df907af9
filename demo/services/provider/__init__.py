"""The payment provider's sandbox, with the shapes of Midtrans' Core API; buyers there always pay, after a moment."""
