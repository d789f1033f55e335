"""Who somebody is: tokens of an identity provider, and the keys that verify them."""
