package loadgen

// The syscall package has this number on no architecture but the newer ones.
const sysSendmmsg = 307
