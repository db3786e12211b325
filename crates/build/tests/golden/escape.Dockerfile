# syntax=docker/dockerfile:1
# escape=`

FROM scratch
RUN a `
# in between

  b `
  c
ENV P=C:\x
