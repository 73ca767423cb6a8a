"""The built-in decoders of hidden states, one file each; `state_decoder.DECODERS` finds these and others."""
