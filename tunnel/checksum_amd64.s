#include "textflag.h"

// func sumAVX2(b []byte) uint64
//
// Y0 and Y2 are sums of 64-bit words without their carries, Y1 and Y3 sums of the upper halves of the same words, which have no carry.
// So what the lower halves sum up to is known in the end: the sum of the words less 2^32 times that of the upper halves, modulo 2^64.
TEXT ·sumAVX2(SB), NOSPLIT, $0-32
	MOVQ  b_base+0(FP), SI
	MOVQ  b_len+8(FP), CX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	SUBQ  $128, CX
	JLT   tail

blocks:
	VMOVDQU (SI), Y4
	VMOVDQU 32(SI), Y5
	VMOVDQU 64(SI), Y6
	VMOVDQU 96(SI), Y7
	VPADDQ  Y4, Y0, Y0
	VPSRLQ  $32, Y4, Y4
	VPADDQ  Y4, Y1, Y1
	VPADDQ  Y5, Y2, Y2
	VPSRLQ  $32, Y5, Y5
	VPADDQ  Y5, Y3, Y3
	VPADDQ  Y6, Y0, Y0
	VPSRLQ  $32, Y6, Y6
	VPADDQ  Y6, Y1, Y1
	VPADDQ  Y7, Y2, Y2
	VPSRLQ  $32, Y7, Y7
	VPADDQ  Y7, Y3, Y3
	ADDQ    $128, SI
	SUBQ    $128, CX
	JGE     blocks

tail:
	ADDQ $128, CX
	JEQ  total

words:
	VMOVDQU (SI), Y4
	VPADDQ  Y4, Y0, Y0
	VPSRLQ  $32, Y4, Y4
	VPADDQ  Y4, Y1, Y1
	ADDQ    $32, SI
	SUBQ    $32, CX
	JNE     words

total:
	VPADDQ       Y2, Y0, Y0
	VPADDQ       Y3, Y1, Y1
	VPSLLQ       $32, Y1, Y2
	VPSUBQ       Y2, Y0, Y0 // the lower halves
	VPADDQ       Y1, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPADDQ       X1, X0, X0
	VPSRLDQ      $8, X0, X1
	VPADDQ       X1, X0, X0
	VMOVQ        X0, AX
	VZEROUPPER
	MOVQ         AX, ret+24(FP)
	RET
