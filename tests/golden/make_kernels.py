#!/usr/bin/env python3
"""Writes kernels.h: small vectors of every kernel, forward and backward, for
tests/check/kernel_golden.c.

What is expected comes from PyTorch's automatic differentiation of the plain formulas in double
precision. Needs torch. Run it in this folder: python3 make_kernels.py | clang-format > kernels.h
"""
import torch
import torch.nn.functional as F

torch.manual_seed(1)
torch.set_default_dtype(torch.float64)


def given(*shape, low=-1.0, high=1.0):
    """A random leaf whose values are floats, so that both sides begin with the same numbers."""
    x = (torch.rand(*shape) * (high - low) + low).float().double()
    return x.requires_grad_()


def show(prefix, **tensors):
    for name, x in tensors.items():
        values = ", ".join(f"{v:.8e}f" for v in x.detach().reshape(-1).tolist())
        shape = ", ".join(str(n) for n in x.shape)
        print(f"/* ({shape}) */\nstatic const float {prefix}_{name}[] = {{{values}}};")


def scan():
    n_tok, d_inner, d_state = 5, 3, 2
    x, dt, z = given(n_tok, d_inner), given(n_tok, d_inner, low=-3), given(n_tok, d_inner, low=-2)
    B, C = given(n_tok, d_state), given(n_tok, d_state)
    A, D, dt_bias = given(d_inner, d_state, low=-4, high=-0.1), given(d_inner), given(d_inner)
    state = given(d_inner, d_state)
    h, rows = state, []
    for t in range(n_tok):
        delta = F.softplus(dt[t] + dt_bias)[:, None]
        h = torch.exp(delta * A) * h + delta * B[t] * x[t][:, None]
        rows.append((h @ C[t] + D * x[t]) * F.silu(z[t]))
    y, dy, dstate_out = torch.stack(rows), given(n_tok, d_inner), given(d_inner, d_state)
    ((y * dy).sum() + (h * dstate_out).sum()).backward()
    show("scan", x=x, dt=dt, z=z, B=B, C=C, A=A, D=D, dt_bias=dt_bias, state=state, dy=dy,
         dstate_out=dstate_out, y=y, state_out=h, dx=x.grad, ddt=dt.grad, dz=z.grad, dB=B.grad,
         dC=C.grad, dA=A.grad, dD=D.grad, ddt_bias=dt_bias.grad, dstate_in=state.grad)


def conv():
    n_tok, d_inner, width = 5, 3, 4
    x, state = given(n_tok, d_inner, low=-2, high=2), given(width - 1, d_inner, low=-2, high=2)
    w, bias = given(d_inner, width), given(d_inner)
    line = torch.cat([state, x])
    y = F.silu(F.conv1d(line.T[None], w[:, None], bias, groups=d_inner)[0].T)
    dy, dstate_out = given(n_tok, d_inner), given(width - 1, d_inner)
    ((y * dy).sum() + (line[n_tok:] * dstate_out).sum()).backward()
    show("conv", x=x, state=state, w=w, bias=bias, dy=dy, dstate_out=dstate_out, y=y,
         state_out=line[n_tok:], dx=x.grad, dw=w.grad, dbias=bias.grad, dstate_in=state.grad)


def rmsnorm():
    n_row, d = 2, 5
    x, residual, w = given(n_row, d), given(n_row, d), given(d)
    total = x + residual
    y = total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + 1e-5) * w
    dy = given(n_row, d)
    (y * dy).sum().backward()
    show("rmsnorm", x=x, residual=residual, w=w, dy=dy, y=y, dx=x.grad, dw=w.grad)


def xent():
    logits = given(3, 7, low=-3, high=3)
    target = torch.tensor([2, -100, 6])
    loss = F.cross_entropy(logits, target, ignore_index=-100, reduction="none")
    (loss.sum() * 0.5).backward()
    show("xent", logits=logits, loss=loss, grad=logits.grad)


def adamw():
    param = given(6)
    show("adamw", param=param)
    optimizer = torch.optim.AdamW([param], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    grads = [given(6).detach() for _ in range(3)]
    for grad in grads:
        param.grad = grad
        optimizer.step()
    show("adamw", grad=torch.stack(grads), after=param)


print("/* Made by make_kernels.py with PyTorch in double precision. */")
for kernel in (scan, conv, rmsnorm, xent, adamw):
    kernel()
