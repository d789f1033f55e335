# For as long as documents move off the single key (dpj keys rewrap): given to the operator's role beside dpj-operator-policy, and
# taken away when dpj keys status shows nothing under the single key any more.
path "transit/decrypt/dpj-documents" {
  capabilities = ["update"]
}

path "transit/encrypt/dpj-tenant-*" {
  capabilities = ["update"]
}
