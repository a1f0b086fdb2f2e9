"""The layers of fastseq.nn on an NVIDIA GPU: the same names, parameters and results.

    from fastseq.nn.cuda.recurrent import LSTM

    lstm = LSTM(64, 128)
    y, state = lstm.forward(x, lengths)     # x of NumPy or on the device, y on the device

Arrays of activations stay on the device: kernels.cuda.memory has `get` and `put`. What a training
pass returns is valid until the same layer's next pass of the kind; memory is taken once for the
largest batch and used again. Ids, lengths and targets come from the host.
"""
