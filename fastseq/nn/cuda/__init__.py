"""The layers of fastseq.nn on an NVIDIA GPU: the same names, parameters and results.

    from fastseq.nn.cuda.recurrent import LSTM

    lstm = LSTM(64, 128)
    y, state = lstm.forward(x, lengths)     # x of NumPy or on the device, y on the device

Arrays of activations stay on the device: kernels.cuda.runtime.memory has `get` and `put`. The
result of a training pass is valid until the same layer's next pass of that kind; memory is
allocated once for the largest batch and reused. Ids, lengths and targets come from the host.
"""
