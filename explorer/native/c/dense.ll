
%struct.given_bf16 = type { ptr, ptr, ptr, i64, i64, i64 }
%union.anon = type { i32 }
%struct.given_f16 = type { ptr, ptr, ptr, i64, i64, i64 }
%union.anon.0 = type { float }

; Function Attrs: nounwind uwtable
define dso_local void @dense_bf16(ptr noundef %0, ptr noundef %1, ptr noundef %2, i64 noundef %3, i64 noundef %4, i64 noundef %5, i64 noundef %6, ptr noundef %7) #0 {
  %9 = alloca ptr, align 8
  %10 = alloca ptr, align 8
  %11 = alloca ptr, align 8
  %12 = alloca i64, align 8
  %13 = alloca i64, align 8
  %14 = alloca i64, align 8
  %15 = alloca i64, align 8
  %16 = alloca ptr, align 8
  %17 = alloca ptr, align 8
  %18 = alloca i64, align 8
  %19 = alloca %struct.given_bf16, align 8
  store ptr %0, ptr %9, align 8
  store ptr %1, ptr %10, align 8
  store ptr %2, ptr %11, align 8
  store i64 %3, ptr %12, align 8
  store i64 %4, ptr %13, align 8
  store i64 %5, ptr %14, align 8
  store i64 %6, ptr %15, align 8
  store ptr %7, ptr %16, align 8
  call void @llvm.lifetime.start.p0(ptr %17) #9
  %20 = load i64, ptr %12, align 8
  %21 = load i64, ptr %14, align 8
  %22 = mul nsw i64 %20, %21
  %23 = mul i64 %22, 4
  %24 = call ptr @malloc(i64 noundef %23) #10
  store ptr %24, ptr %17, align 8
  call void @llvm.lifetime.start.p0(ptr %18) #9
  store i64 0, ptr %18, align 8
  br label %25

25:                                               ; preds = %41, %8
  %26 = load i64, ptr %18, align 8
  %27 = load i64, ptr %12, align 8
  %28 = load i64, ptr %14, align 8
  %29 = mul nsw i64 %27, %28
  %30 = icmp slt i64 %26, %29
  br i1 %30, label %32, label %31

31:                                               ; preds = %25
  call void @llvm.lifetime.end.p0(ptr %18) #9
  br label %44

32:                                               ; preds = %25
  %33 = load ptr, ptr %9, align 8
  %34 = load i64, ptr %18, align 8
  %35 = getelementptr inbounds i16, ptr %33, i64 %34
  %36 = load i16, ptr %35, align 2
  %37 = call reassoc nsz contract float @widen_one_bf16(i16 noundef zeroext %36)
  %38 = load ptr, ptr %17, align 8
  %39 = load i64, ptr %18, align 8
  %40 = getelementptr inbounds float, ptr %38, i64 %39
  store float %37, ptr %40, align 4
  br label %41

41:                                               ; preds = %32
  %42 = load i64, ptr %18, align 8
  %43 = add nsw i64 %42, 1
  store i64 %43, ptr %18, align 8
  br label %25, !llvm.loop !4

44:                                               ; preds = %31
  call void @llvm.lifetime.start.p0(ptr %19) #9
  %45 = getelementptr inbounds nuw %struct.given_bf16, ptr %19, i32 0, i32 0
  %46 = load ptr, ptr %17, align 8
  store ptr %46, ptr %45, align 8
  %47 = getelementptr inbounds nuw %struct.given_bf16, ptr %19, i32 0, i32 1
  %48 = load ptr, ptr %10, align 8
  store ptr %48, ptr %47, align 8
  %49 = getelementptr inbounds nuw %struct.given_bf16, ptr %19, i32 0, i32 2
  %50 = load ptr, ptr %11, align 8
  store ptr %50, ptr %49, align 8
  %51 = getelementptr inbounds nuw %struct.given_bf16, ptr %19, i32 0, i32 3
  %52 = load i64, ptr %12, align 8
  store i64 %52, ptr %51, align 8
  %53 = getelementptr inbounds nuw %struct.given_bf16, ptr %19, i32 0, i32 4
  %54 = load i64, ptr %13, align 8
  store i64 %54, ptr %53, align 8
  %55 = getelementptr inbounds nuw %struct.given_bf16, ptr %19, i32 0, i32 5
  %56 = load i64, ptr %14, align 8
  store i64 %56, ptr %55, align 8
  %57 = load ptr, ptr %16, align 8
  %58 = load i64, ptr %13, align 8
  %59 = add nsw i64 %58, 4
  %60 = sub nsw i64 %59, 1
  %61 = sdiv i64 %60, 4
  %62 = load i64, ptr %15, align 8
  %63 = call i32 %57(i64 noundef 0, i64 noundef %61, i64 noundef %62, ptr noundef @part_bf16, ptr noundef %19)
  %64 = load ptr, ptr %17, align 8
  call void @free(ptr noundef %64)
  call void @llvm.lifetime.end.p0(ptr %19) #9
  call void @llvm.lifetime.end.p0(ptr %17) #9
  ret void
}

; Function Attrs: nocallback nofree nosync nounwind willreturn memory(argmem: readwrite)
declare void @llvm.lifetime.start.p0(ptr captures(none)) #1

; Function Attrs: allocsize(0)
declare dso_local ptr @malloc(i64 noundef) #2

; Function Attrs: inlinehint nounwind uwtable
define internal float @widen_one_bf16(i16 noundef zeroext %0) #3 {
  %2 = alloca i16, align 2
  %3 = alloca %union.anon, align 4
  store i16 %0, ptr %2, align 2
  call void @llvm.lifetime.start.p0(ptr %3) #9
  %4 = load i16, ptr %2, align 2
  %5 = zext i16 %4 to i32
  %6 = shl i32 %5, 16
  store i32 %6, ptr %3, align 4
  %7 = load float, ptr %3, align 4
  call void @llvm.lifetime.end.p0(ptr %3) #9
  ret float %7
}

; Function Attrs: nocallback nofree nosync nounwind willreturn memory(argmem: readwrite)
declare void @llvm.lifetime.end.p0(ptr captures(none)) #1

; Function Attrs: nounwind uwtable
define internal void @part_bf16(i64 noundef %0, i64 noundef %1, ptr noundef %2) #4 {
  %4 = alloca i64, align 8
  %5 = alloca i64, align 8
  %6 = alloca ptr, align 8
  %7 = alloca ptr, align 8
  %8 = alloca i64, align 8
  %9 = alloca i64, align 8
  %10 = alloca i64, align 8
  %11 = alloca i32, align 4
  %12 = alloca i64, align 8
  %13 = alloca i64, align 8
  %14 = alloca ptr, align 8
  %15 = alloca i64, align 8
  %16 = alloca ptr, align 8
  %17 = alloca ptr, align 8
  %18 = alloca i64, align 8
  %19 = alloca [4 x <16 x float>], align 16
  %20 = alloca i32, align 4
  %21 = alloca ptr, align 8
  %22 = alloca i32, align 4
  %23 = alloca i64, align 8
  %24 = alloca float, align 4
  %25 = alloca <16 x float>, align 64
  store i64 %0, ptr %4, align 8
  store i64 %1, ptr %5, align 8
  store ptr %2, ptr %6, align 8
  call void @llvm.lifetime.start.p0(ptr %7) #9
  %26 = load ptr, ptr %6, align 8
  store ptr %26, ptr %7, align 8
  call void @llvm.lifetime.start.p0(ptr %8) #9
  %27 = load ptr, ptr %7, align 8
  %28 = getelementptr inbounds nuw %struct.given_bf16, ptr %27, i32 0, i32 5
  %29 = load i64, ptr %28, align 8
  store i64 %29, ptr %8, align 8
  call void @llvm.lifetime.start.p0(ptr %9) #9
  %30 = load i64, ptr %8, align 8
  %31 = sdiv i64 %30, 16
  %32 = mul nsw i64 %31, 16
  store i64 %32, ptr %9, align 8
  call void @llvm.lifetime.start.p0(ptr %10) #9
  %33 = load i64, ptr %4, align 8
  store i64 %33, ptr %10, align 8
  br label %34

34:                                               ; preds = %228, %3
  %35 = load i64, ptr %10, align 8
  %36 = load i64, ptr %5, align 8
  %37 = icmp slt i64 %35, %36
  br i1 %37, label %39, label %38

38:                                               ; preds = %34
  store i32 2, ptr %11, align 4
  call void @llvm.lifetime.end.p0(ptr %10) #9
  br label %231

39:                                               ; preds = %34
  call void @llvm.lifetime.start.p0(ptr %12) #9
  %40 = load i64, ptr %10, align 8
  %41 = mul nsw i64 %40, 4
  store i64 %41, ptr %12, align 8
  call void @llvm.lifetime.start.p0(ptr %13) #9
  %42 = load ptr, ptr %7, align 8
  %43 = getelementptr inbounds nuw %struct.given_bf16, ptr %42, i32 0, i32 4
  %44 = load i64, ptr %43, align 8
  %45 = load i64, ptr %12, align 8
  %46 = sub nsw i64 %44, %45
  %47 = icmp slt i64 %46, 4
  br i1 %47, label %48, label %54

48:                                               ; preds = %39
  %49 = load ptr, ptr %7, align 8
  %50 = getelementptr inbounds nuw %struct.given_bf16, ptr %49, i32 0, i32 4
  %51 = load i64, ptr %50, align 8
  %52 = load i64, ptr %12, align 8
  %53 = sub nsw i64 %51, %52
  br label %55

54:                                               ; preds = %39
  br label %55

55:                                               ; preds = %54, %48
  %56 = phi i64 [ %53, %48 ], [ 4, %54 ]
  store i64 %56, ptr %13, align 8
  call void @llvm.lifetime.start.p0(ptr %14) #9
  %57 = load ptr, ptr %7, align 8
  %58 = getelementptr inbounds nuw %struct.given_bf16, ptr %57, i32 0, i32 1
  %59 = load ptr, ptr %58, align 8
  %60 = load i64, ptr %12, align 8
  %61 = load i64, ptr %8, align 8
  %62 = mul nsw i64 %60, %61
  %63 = getelementptr inbounds i16, ptr %59, i64 %62
  store ptr %63, ptr %14, align 8
  call void @llvm.lifetime.start.p0(ptr %15) #9
  store i64 0, ptr %15, align 8
  br label %64

64:                                               ; preds = %224, %55
  %65 = load i64, ptr %15, align 8
  %66 = load ptr, ptr %7, align 8
  %67 = getelementptr inbounds nuw %struct.given_bf16, ptr %66, i32 0, i32 3
  %68 = load i64, ptr %67, align 8
  %69 = icmp slt i64 %65, %68
  br i1 %69, label %71, label %70

70:                                               ; preds = %64
  store i32 5, ptr %11, align 4
  call void @llvm.lifetime.end.p0(ptr %15) #9
  br label %227

71:                                               ; preds = %64
  call void @llvm.lifetime.start.p0(ptr %16) #9
  %72 = load ptr, ptr %7, align 8
  %73 = getelementptr inbounds nuw %struct.given_bf16, ptr %72, i32 0, i32 0
  %74 = load ptr, ptr %73, align 8
  %75 = load i64, ptr %15, align 8
  %76 = load i64, ptr %8, align 8
  %77 = mul nsw i64 %75, %76
  %78 = getelementptr inbounds float, ptr %74, i64 %77
  store ptr %78, ptr %16, align 8
  call void @llvm.lifetime.start.p0(ptr %17) #9
  %79 = load ptr, ptr %7, align 8
  %80 = getelementptr inbounds nuw %struct.given_bf16, ptr %79, i32 0, i32 2
  %81 = load ptr, ptr %80, align 8
  %82 = load i64, ptr %15, align 8
  %83 = load ptr, ptr %7, align 8
  %84 = getelementptr inbounds nuw %struct.given_bf16, ptr %83, i32 0, i32 4
  %85 = load i64, ptr %84, align 8
  %86 = mul nsw i64 %82, %85
  %87 = getelementptr inbounds i16, ptr %81, i64 %86
  %88 = load i64, ptr %12, align 8
  %89 = getelementptr inbounds i16, ptr %87, i64 %88
  store ptr %89, ptr %17, align 8
  call void @llvm.lifetime.start.p0(ptr %18) #9
  store i64 0, ptr %18, align 8
  call void @llvm.lifetime.start.p0(ptr %19) #9
  call void @llvm.memset.p0.i64(ptr align 16 %19, i8 0, i64 256, i1 false)
  %90 = load i64, ptr %13, align 8
  %91 = icmp eq i64 %90, 4
  br i1 %91, label %92, label %187

92:                                               ; preds = %71
  br label %93

93:                                               ; preds = %146, %92
  %94 = load i64, ptr %18, align 8
  %95 = add nsw i64 %94, 32
  %96 = load i64, ptr %9, align 8
  %97 = icmp sle i64 %95, %96
  br i1 %97, label %98, label %149

98:                                               ; preds = %93
  call void @llvm.lifetime.start.p0(ptr %20) #9
  store i32 0, ptr %20, align 4
  br label %99

99:                                               ; preds = %142, %98
  %100 = load i32, ptr %20, align 4
  %101 = icmp slt i32 %100, 4
  br i1 %101, label %103, label %102

102:                                              ; preds = %99
  store i32 11, ptr %11, align 4
  call void @llvm.lifetime.end.p0(ptr %20) #9
  br label %145

103:                                              ; preds = %99
  call void @llvm.lifetime.start.p0(ptr %21) #9
  %104 = load ptr, ptr %14, align 8
  %105 = load i32, ptr %20, align 4
  %106 = sext i32 %105 to i64
  %107 = load i64, ptr %8, align 8
  %108 = mul nsw i64 %106, %107
  %109 = getelementptr inbounds i16, ptr %104, i64 %108
  %110 = load i64, ptr %18, align 8
  %111 = getelementptr inbounds i16, ptr %109, i64 %110
  store ptr %111, ptr %21, align 8
  %112 = load ptr, ptr %21, align 8
  %113 = load i64, ptr %8, align 8
  %114 = mul nsw i64 4, %113
  %115 = getelementptr inbounds i16, ptr %112, i64 %114
  call void @llvm.prefetch.p0(ptr %115, i32 0, i32 3, i32 1)
  %116 = load ptr, ptr %21, align 8
  %117 = call reassoc nsz contract <16 x float> @widen_bf16(ptr noundef %116)
  %118 = load ptr, ptr %16, align 8
  %119 = load i64, ptr %18, align 8
  %120 = getelementptr inbounds float, ptr %118, i64 %119
  %121 = load <16 x float>, ptr %120, align 4
  %122 = fmul reassoc nsz contract <16 x float> %117, %121
  %123 = load i32, ptr %20, align 4
  %124 = sext i32 %123 to i64
  %125 = getelementptr inbounds [4 x <16 x float>], ptr %19, i64 0, i64 %124
  %126 = load <16 x float>, ptr %125, align 16
  %127 = fadd reassoc nsz contract <16 x float> %126, %122
  store <16 x float> %127, ptr %125, align 16
  %128 = load ptr, ptr %21, align 8
  %129 = getelementptr inbounds i16, ptr %128, i64 16
  %130 = call reassoc nsz contract <16 x float> @widen_bf16(ptr noundef %129)
  %131 = load ptr, ptr %16, align 8
  %132 = load i64, ptr %18, align 8
  %133 = getelementptr inbounds float, ptr %131, i64 %132
  %134 = getelementptr inbounds float, ptr %133, i64 16
  %135 = load <16 x float>, ptr %134, align 4
  %136 = fmul reassoc nsz contract <16 x float> %130, %135
  %137 = load i32, ptr %20, align 4
  %138 = sext i32 %137 to i64
  %139 = getelementptr inbounds [4 x <16 x float>], ptr %19, i64 0, i64 %138
  %140 = load <16 x float>, ptr %139, align 16
  %141 = fadd reassoc nsz contract <16 x float> %140, %136
  store <16 x float> %141, ptr %139, align 16
  call void @llvm.lifetime.end.p0(ptr %21) #9
  br label %142

142:                                              ; preds = %103
  %143 = load i32, ptr %20, align 4
  %144 = add nsw i32 %143, 1
  store i32 %144, ptr %20, align 4
  br label %99, !llvm.loop !6

145:                                              ; preds = %102
  br label %146

146:                                              ; preds = %145
  %147 = load i64, ptr %18, align 8
  %148 = add nsw i64 %147, 32
  store i64 %148, ptr %18, align 8
  br label %93, !llvm.loop !7

149:                                              ; preds = %93
  br label %150

150:                                              ; preds = %183, %149
  %151 = load i64, ptr %18, align 8
  %152 = load i64, ptr %9, align 8
  %153 = icmp slt i64 %151, %152
  br i1 %153, label %154, label %186

154:                                              ; preds = %150
  call void @llvm.lifetime.start.p0(ptr %22) #9
  store i32 0, ptr %22, align 4
  br label %155

155:                                              ; preds = %179, %154
  %156 = load i32, ptr %22, align 4
  %157 = icmp slt i32 %156, 4
  br i1 %157, label %159, label %158

158:                                              ; preds = %155
  store i32 17, ptr %11, align 4
  call void @llvm.lifetime.end.p0(ptr %22) #9
  br label %182

159:                                              ; preds = %155
  %160 = load ptr, ptr %14, align 8
  %161 = load i32, ptr %22, align 4
  %162 = sext i32 %161 to i64
  %163 = load i64, ptr %8, align 8
  %164 = mul nsw i64 %162, %163
  %165 = getelementptr inbounds i16, ptr %160, i64 %164
  %166 = load i64, ptr %18, align 8
  %167 = getelementptr inbounds i16, ptr %165, i64 %166
  %168 = call reassoc nsz contract <16 x float> @widen_bf16(ptr noundef %167)
  %169 = load ptr, ptr %16, align 8
  %170 = load i64, ptr %18, align 8
  %171 = getelementptr inbounds float, ptr %169, i64 %170
  %172 = load <16 x float>, ptr %171, align 4
  %173 = fmul reassoc nsz contract <16 x float> %168, %172
  %174 = load i32, ptr %22, align 4
  %175 = sext i32 %174 to i64
  %176 = getelementptr inbounds [4 x <16 x float>], ptr %19, i64 0, i64 %175
  %177 = load <16 x float>, ptr %176, align 16
  %178 = fadd reassoc nsz contract <16 x float> %177, %173
  store <16 x float> %178, ptr %176, align 16
  br label %179

179:                                              ; preds = %159
  %180 = load i32, ptr %22, align 4
  %181 = add nsw i32 %180, 1
  store i32 %181, ptr %22, align 4
  br label %155, !llvm.loop !8

182:                                              ; preds = %158
  br label %183

183:                                              ; preds = %182
  %184 = load i64, ptr %18, align 8
  %185 = add nsw i64 %184, 16
  store i64 %185, ptr %18, align 8
  br label %150, !llvm.loop !9

186:                                              ; preds = %150
  br label %187

187:                                              ; preds = %186, %71
  call void @llvm.lifetime.start.p0(ptr %23) #9
  store i64 0, ptr %23, align 8
  br label %188

188:                                              ; preds = %220, %187
  %189 = load i64, ptr %23, align 8
  %190 = load i64, ptr %13, align 8
  %191 = icmp slt i64 %189, %190
  br i1 %191, label %193, label %192

192:                                              ; preds = %188
  store i32 20, ptr %11, align 4
  call void @llvm.lifetime.end.p0(ptr %23) #9
  br label %223

193:                                              ; preds = %188
  call void @llvm.lifetime.start.p0(ptr %24) #9
  %194 = load ptr, ptr %16, align 8
  %195 = load ptr, ptr %14, align 8
  %196 = load i64, ptr %23, align 8
  %197 = load i64, ptr %8, align 8
  %198 = mul nsw i64 %196, %197
  %199 = getelementptr inbounds i16, ptr %195, i64 %198
  %200 = load i64, ptr %18, align 8
  %201 = load i64, ptr %8, align 8
  %202 = call reassoc nsz contract float @row_bf16(ptr noundef %194, ptr noundef %199, i64 noundef %200, i64 noundef %201)
  store float %202, ptr %24, align 4
  %203 = load i64, ptr %13, align 8
  %204 = icmp eq i64 %203, 4
  br i1 %204, label %205, label %212

205:                                              ; preds = %193
  %206 = load i64, ptr %23, align 8
  %207 = getelementptr inbounds [4 x <16 x float>], ptr %19, i64 0, i64 %206
  %208 = load <16 x float>, ptr %207, align 16
  call void @llvm.lifetime.start.p0(ptr %25) #9
  store <16 x float> %208, ptr %25, align 64
  %209 = call reassoc nsz contract float @sum_of(ptr noundef byval(<16 x float>) align 64 %25)
  call void @llvm.lifetime.end.p0(ptr %25) #9
  %210 = load float, ptr %24, align 4
  %211 = fadd reassoc nsz contract float %209, %210
  br label %214

212:                                              ; preds = %193
  %213 = load float, ptr %24, align 4
  br label %214

214:                                              ; preds = %212, %205
  %215 = phi reassoc nsz contract float [ %211, %205 ], [ %213, %212 ]
  %216 = call zeroext i16 @narrow_bf16(float noundef %215)
  %217 = load ptr, ptr %17, align 8
  %218 = load i64, ptr %23, align 8
  %219 = getelementptr inbounds i16, ptr %217, i64 %218
  store i16 %216, ptr %219, align 2
  call void @llvm.lifetime.end.p0(ptr %24) #9
  br label %220

220:                                              ; preds = %214
  %221 = load i64, ptr %23, align 8
  %222 = add nsw i64 %221, 1
  store i64 %222, ptr %23, align 8
  br label %188, !llvm.loop !10

223:                                              ; preds = %192
  call void @llvm.lifetime.end.p0(ptr %19) #9
  call void @llvm.lifetime.end.p0(ptr %18) #9
  call void @llvm.lifetime.end.p0(ptr %17) #9
  call void @llvm.lifetime.end.p0(ptr %16) #9
  br label %224

224:                                              ; preds = %223
  %225 = load i64, ptr %15, align 8
  %226 = add nsw i64 %225, 1
  store i64 %226, ptr %15, align 8
  br label %64, !llvm.loop !11

227:                                              ; preds = %70
  call void @llvm.lifetime.end.p0(ptr %14) #9
  call void @llvm.lifetime.end.p0(ptr %13) #9
  call void @llvm.lifetime.end.p0(ptr %12) #9
  br label %228

228:                                              ; preds = %227
  %229 = load i64, ptr %10, align 8
  %230 = add nsw i64 %229, 1
  store i64 %230, ptr %10, align 8
  br label %34, !llvm.loop !12

231:                                              ; preds = %38
  call void @llvm.lifetime.end.p0(ptr %9) #9
  call void @llvm.lifetime.end.p0(ptr %8) #9
  call void @llvm.lifetime.end.p0(ptr %7) #9
  ret void
}

declare dso_local void @free(ptr noundef) #5

; Function Attrs: nounwind uwtable
define dso_local void @dense_f16(ptr noundef %0, ptr noundef %1, ptr noundef %2, i64 noundef %3, i64 noundef %4, i64 noundef %5, i64 noundef %6, ptr noundef %7) #0 {
  %9 = alloca ptr, align 8
  %10 = alloca ptr, align 8
  %11 = alloca ptr, align 8
  %12 = alloca i64, align 8
  %13 = alloca i64, align 8
  %14 = alloca i64, align 8
  %15 = alloca i64, align 8
  %16 = alloca ptr, align 8
  %17 = alloca ptr, align 8
  %18 = alloca i64, align 8
  %19 = alloca %struct.given_f16, align 8
  store ptr %0, ptr %9, align 8
  store ptr %1, ptr %10, align 8
  store ptr %2, ptr %11, align 8
  store i64 %3, ptr %12, align 8
  store i64 %4, ptr %13, align 8
  store i64 %5, ptr %14, align 8
  store i64 %6, ptr %15, align 8
  store ptr %7, ptr %16, align 8
  call void @llvm.lifetime.start.p0(ptr %17) #9
  %20 = load i64, ptr %12, align 8
  %21 = load i64, ptr %14, align 8
  %22 = mul nsw i64 %20, %21
  %23 = mul i64 %22, 4
  %24 = call ptr @malloc(i64 noundef %23) #10
  store ptr %24, ptr %17, align 8
  call void @llvm.lifetime.start.p0(ptr %18) #9
  store i64 0, ptr %18, align 8
  br label %25

25:                                               ; preds = %41, %8
  %26 = load i64, ptr %18, align 8
  %27 = load i64, ptr %12, align 8
  %28 = load i64, ptr %14, align 8
  %29 = mul nsw i64 %27, %28
  %30 = icmp slt i64 %26, %29
  br i1 %30, label %32, label %31

31:                                               ; preds = %25
  call void @llvm.lifetime.end.p0(ptr %18) #9
  br label %44

32:                                               ; preds = %25
  %33 = load ptr, ptr %9, align 8
  %34 = load i64, ptr %18, align 8
  %35 = getelementptr inbounds half, ptr %33, i64 %34
  %36 = load half, ptr %35, align 2
  %37 = call reassoc nsz contract float @widen_one_f16(half noundef %36)
  %38 = load ptr, ptr %17, align 8
  %39 = load i64, ptr %18, align 8
  %40 = getelementptr inbounds float, ptr %38, i64 %39
  store float %37, ptr %40, align 4
  br label %41

41:                                               ; preds = %32
  %42 = load i64, ptr %18, align 8
  %43 = add nsw i64 %42, 1
  store i64 %43, ptr %18, align 8
  br label %25, !llvm.loop !13

44:                                               ; preds = %31
  call void @llvm.lifetime.start.p0(ptr %19) #9
  %45 = getelementptr inbounds nuw %struct.given_f16, ptr %19, i32 0, i32 0
  %46 = load ptr, ptr %17, align 8
  store ptr %46, ptr %45, align 8
  %47 = getelementptr inbounds nuw %struct.given_f16, ptr %19, i32 0, i32 1
  %48 = load ptr, ptr %10, align 8
  store ptr %48, ptr %47, align 8
  %49 = getelementptr inbounds nuw %struct.given_f16, ptr %19, i32 0, i32 2
  %50 = load ptr, ptr %11, align 8
  store ptr %50, ptr %49, align 8
  %51 = getelementptr inbounds nuw %struct.given_f16, ptr %19, i32 0, i32 3
  %52 = load i64, ptr %12, align 8
  store i64 %52, ptr %51, align 8
  %53 = getelementptr inbounds nuw %struct.given_f16, ptr %19, i32 0, i32 4
  %54 = load i64, ptr %13, align 8
  store i64 %54, ptr %53, align 8
  %55 = getelementptr inbounds nuw %struct.given_f16, ptr %19, i32 0, i32 5
  %56 = load i64, ptr %14, align 8
  store i64 %56, ptr %55, align 8
  %57 = load ptr, ptr %16, align 8
  %58 = load i64, ptr %13, align 8
  %59 = add nsw i64 %58, 4
  %60 = sub nsw i64 %59, 1
  %61 = sdiv i64 %60, 4
  %62 = load i64, ptr %15, align 8
  %63 = call i32 %57(i64 noundef 0, i64 noundef %61, i64 noundef %62, ptr noundef @part_f16, ptr noundef %19)
  %64 = load ptr, ptr %17, align 8
  call void @free(ptr noundef %64)
  call void @llvm.lifetime.end.p0(ptr %19) #9
  call void @llvm.lifetime.end.p0(ptr %17) #9
  ret void
}

; Function Attrs: inlinehint nounwind uwtable
define internal float @widen_one_f16(half noundef %0) #3 {
  %2 = alloca half, align 2
  store half %0, ptr %2, align 2
  %3 = load half, ptr %2, align 2
  %4 = fpext reassoc nsz contract half %3 to float
  ret float %4
}

; Function Attrs: nounwind uwtable
define internal void @part_f16(i64 noundef %0, i64 noundef %1, ptr noundef %2) #4 {
  %4 = alloca i64, align 8
  %5 = alloca i64, align 8
  %6 = alloca ptr, align 8
  %7 = alloca ptr, align 8
  %8 = alloca i64, align 8
  %9 = alloca i64, align 8
  %10 = alloca i64, align 8
  %11 = alloca i32, align 4
  %12 = alloca i64, align 8
  %13 = alloca i64, align 8
  %14 = alloca ptr, align 8
  %15 = alloca i64, align 8
  %16 = alloca ptr, align 8
  %17 = alloca ptr, align 8
  %18 = alloca i64, align 8
  %19 = alloca [4 x <16 x float>], align 16
  %20 = alloca i32, align 4
  %21 = alloca ptr, align 8
  %22 = alloca i32, align 4
  %23 = alloca i64, align 8
  %24 = alloca float, align 4
  %25 = alloca <16 x float>, align 64
  store i64 %0, ptr %4, align 8
  store i64 %1, ptr %5, align 8
  store ptr %2, ptr %6, align 8
  call void @llvm.lifetime.start.p0(ptr %7) #9
  %26 = load ptr, ptr %6, align 8
  store ptr %26, ptr %7, align 8
  call void @llvm.lifetime.start.p0(ptr %8) #9
  %27 = load ptr, ptr %7, align 8
  %28 = getelementptr inbounds nuw %struct.given_f16, ptr %27, i32 0, i32 5
  %29 = load i64, ptr %28, align 8
  store i64 %29, ptr %8, align 8
  call void @llvm.lifetime.start.p0(ptr %9) #9
  %30 = load i64, ptr %8, align 8
  %31 = sdiv i64 %30, 16
  %32 = mul nsw i64 %31, 16
  store i64 %32, ptr %9, align 8
  call void @llvm.lifetime.start.p0(ptr %10) #9
  %33 = load i64, ptr %4, align 8
  store i64 %33, ptr %10, align 8
  br label %34

34:                                               ; preds = %228, %3
  %35 = load i64, ptr %10, align 8
  %36 = load i64, ptr %5, align 8
  %37 = icmp slt i64 %35, %36
  br i1 %37, label %39, label %38

38:                                               ; preds = %34
  store i32 2, ptr %11, align 4
  call void @llvm.lifetime.end.p0(ptr %10) #9
  br label %231

39:                                               ; preds = %34
  call void @llvm.lifetime.start.p0(ptr %12) #9
  %40 = load i64, ptr %10, align 8
  %41 = mul nsw i64 %40, 4
  store i64 %41, ptr %12, align 8
  call void @llvm.lifetime.start.p0(ptr %13) #9
  %42 = load ptr, ptr %7, align 8
  %43 = getelementptr inbounds nuw %struct.given_f16, ptr %42, i32 0, i32 4
  %44 = load i64, ptr %43, align 8
  %45 = load i64, ptr %12, align 8
  %46 = sub nsw i64 %44, %45
  %47 = icmp slt i64 %46, 4
  br i1 %47, label %48, label %54

48:                                               ; preds = %39
  %49 = load ptr, ptr %7, align 8
  %50 = getelementptr inbounds nuw %struct.given_f16, ptr %49, i32 0, i32 4
  %51 = load i64, ptr %50, align 8
  %52 = load i64, ptr %12, align 8
  %53 = sub nsw i64 %51, %52
  br label %55

54:                                               ; preds = %39
  br label %55

55:                                               ; preds = %54, %48
  %56 = phi i64 [ %53, %48 ], [ 4, %54 ]
  store i64 %56, ptr %13, align 8
  call void @llvm.lifetime.start.p0(ptr %14) #9
  %57 = load ptr, ptr %7, align 8
  %58 = getelementptr inbounds nuw %struct.given_f16, ptr %57, i32 0, i32 1
  %59 = load ptr, ptr %58, align 8
  %60 = load i64, ptr %12, align 8
  %61 = load i64, ptr %8, align 8
  %62 = mul nsw i64 %60, %61
  %63 = getelementptr inbounds half, ptr %59, i64 %62
  store ptr %63, ptr %14, align 8
  call void @llvm.lifetime.start.p0(ptr %15) #9
  store i64 0, ptr %15, align 8
  br label %64

64:                                               ; preds = %224, %55
  %65 = load i64, ptr %15, align 8
  %66 = load ptr, ptr %7, align 8
  %67 = getelementptr inbounds nuw %struct.given_f16, ptr %66, i32 0, i32 3
  %68 = load i64, ptr %67, align 8
  %69 = icmp slt i64 %65, %68
  br i1 %69, label %71, label %70

70:                                               ; preds = %64
  store i32 5, ptr %11, align 4
  call void @llvm.lifetime.end.p0(ptr %15) #9
  br label %227

71:                                               ; preds = %64
  call void @llvm.lifetime.start.p0(ptr %16) #9
  %72 = load ptr, ptr %7, align 8
  %73 = getelementptr inbounds nuw %struct.given_f16, ptr %72, i32 0, i32 0
  %74 = load ptr, ptr %73, align 8
  %75 = load i64, ptr %15, align 8
  %76 = load i64, ptr %8, align 8
  %77 = mul nsw i64 %75, %76
  %78 = getelementptr inbounds float, ptr %74, i64 %77
  store ptr %78, ptr %16, align 8
  call void @llvm.lifetime.start.p0(ptr %17) #9
  %79 = load ptr, ptr %7, align 8
  %80 = getelementptr inbounds nuw %struct.given_f16, ptr %79, i32 0, i32 2
  %81 = load ptr, ptr %80, align 8
  %82 = load i64, ptr %15, align 8
  %83 = load ptr, ptr %7, align 8
  %84 = getelementptr inbounds nuw %struct.given_f16, ptr %83, i32 0, i32 4
  %85 = load i64, ptr %84, align 8
  %86 = mul nsw i64 %82, %85
  %87 = getelementptr inbounds half, ptr %81, i64 %86
  %88 = load i64, ptr %12, align 8
  %89 = getelementptr inbounds half, ptr %87, i64 %88
  store ptr %89, ptr %17, align 8
  call void @llvm.lifetime.start.p0(ptr %18) #9
  store i64 0, ptr %18, align 8
  call void @llvm.lifetime.start.p0(ptr %19) #9
  call void @llvm.memset.p0.i64(ptr align 16 %19, i8 0, i64 256, i1 false)
  %90 = load i64, ptr %13, align 8
  %91 = icmp eq i64 %90, 4
  br i1 %91, label %92, label %187

92:                                               ; preds = %71
  br label %93

93:                                               ; preds = %146, %92
  %94 = load i64, ptr %18, align 8
  %95 = add nsw i64 %94, 32
  %96 = load i64, ptr %9, align 8
  %97 = icmp sle i64 %95, %96
  br i1 %97, label %98, label %149

98:                                               ; preds = %93
  call void @llvm.lifetime.start.p0(ptr %20) #9
  store i32 0, ptr %20, align 4
  br label %99

99:                                               ; preds = %142, %98
  %100 = load i32, ptr %20, align 4
  %101 = icmp slt i32 %100, 4
  br i1 %101, label %103, label %102

102:                                              ; preds = %99
  store i32 11, ptr %11, align 4
  call void @llvm.lifetime.end.p0(ptr %20) #9
  br label %145

103:                                              ; preds = %99
  call void @llvm.lifetime.start.p0(ptr %21) #9
  %104 = load ptr, ptr %14, align 8
  %105 = load i32, ptr %20, align 4
  %106 = sext i32 %105 to i64
  %107 = load i64, ptr %8, align 8
  %108 = mul nsw i64 %106, %107
  %109 = getelementptr inbounds half, ptr %104, i64 %108
  %110 = load i64, ptr %18, align 8
  %111 = getelementptr inbounds half, ptr %109, i64 %110
  store ptr %111, ptr %21, align 8
  %112 = load ptr, ptr %21, align 8
  %113 = load i64, ptr %8, align 8
  %114 = mul nsw i64 4, %113
  %115 = getelementptr inbounds half, ptr %112, i64 %114
  call void @llvm.prefetch.p0(ptr %115, i32 0, i32 3, i32 1)
  %116 = load ptr, ptr %21, align 8
  %117 = call reassoc nsz contract <16 x float> @widen_f16(ptr noundef %116)
  %118 = load ptr, ptr %16, align 8
  %119 = load i64, ptr %18, align 8
  %120 = getelementptr inbounds float, ptr %118, i64 %119
  %121 = load <16 x float>, ptr %120, align 4
  %122 = fmul reassoc nsz contract <16 x float> %117, %121
  %123 = load i32, ptr %20, align 4
  %124 = sext i32 %123 to i64
  %125 = getelementptr inbounds [4 x <16 x float>], ptr %19, i64 0, i64 %124
  %126 = load <16 x float>, ptr %125, align 16
  %127 = fadd reassoc nsz contract <16 x float> %126, %122
  store <16 x float> %127, ptr %125, align 16
  %128 = load ptr, ptr %21, align 8
  %129 = getelementptr inbounds half, ptr %128, i64 16
  %130 = call reassoc nsz contract <16 x float> @widen_f16(ptr noundef %129)
  %131 = load ptr, ptr %16, align 8
  %132 = load i64, ptr %18, align 8
  %133 = getelementptr inbounds float, ptr %131, i64 %132
  %134 = getelementptr inbounds float, ptr %133, i64 16
  %135 = load <16 x float>, ptr %134, align 4
  %136 = fmul reassoc nsz contract <16 x float> %130, %135
  %137 = load i32, ptr %20, align 4
  %138 = sext i32 %137 to i64
  %139 = getelementptr inbounds [4 x <16 x float>], ptr %19, i64 0, i64 %138
  %140 = load <16 x float>, ptr %139, align 16
  %141 = fadd reassoc nsz contract <16 x float> %140, %136
  store <16 x float> %141, ptr %139, align 16
  call void @llvm.lifetime.end.p0(ptr %21) #9
  br label %142

142:                                              ; preds = %103
  %143 = load i32, ptr %20, align 4
  %144 = add nsw i32 %143, 1
  store i32 %144, ptr %20, align 4
  br label %99, !llvm.loop !14

145:                                              ; preds = %102
  br label %146

146:                                              ; preds = %145
  %147 = load i64, ptr %18, align 8
  %148 = add nsw i64 %147, 32
  store i64 %148, ptr %18, align 8
  br label %93, !llvm.loop !15

149:                                              ; preds = %93
  br label %150

150:                                              ; preds = %183, %149
  %151 = load i64, ptr %18, align 8
  %152 = load i64, ptr %9, align 8
  %153 = icmp slt i64 %151, %152
  br i1 %153, label %154, label %186

154:                                              ; preds = %150
  call void @llvm.lifetime.start.p0(ptr %22) #9
  store i32 0, ptr %22, align 4
  br label %155

155:                                              ; preds = %179, %154
  %156 = load i32, ptr %22, align 4
  %157 = icmp slt i32 %156, 4
  br i1 %157, label %159, label %158

158:                                              ; preds = %155
  store i32 17, ptr %11, align 4
  call void @llvm.lifetime.end.p0(ptr %22) #9
  br label %182

159:                                              ; preds = %155
  %160 = load ptr, ptr %14, align 8
  %161 = load i32, ptr %22, align 4
  %162 = sext i32 %161 to i64
  %163 = load i64, ptr %8, align 8
  %164 = mul nsw i64 %162, %163
  %165 = getelementptr inbounds half, ptr %160, i64 %164
  %166 = load i64, ptr %18, align 8
  %167 = getelementptr inbounds half, ptr %165, i64 %166
  %168 = call reassoc nsz contract <16 x float> @widen_f16(ptr noundef %167)
  %169 = load ptr, ptr %16, align 8
  %170 = load i64, ptr %18, align 8
  %171 = getelementptr inbounds float, ptr %169, i64 %170
  %172 = load <16 x float>, ptr %171, align 4
  %173 = fmul reassoc nsz contract <16 x float> %168, %172
  %174 = load i32, ptr %22, align 4
  %175 = sext i32 %174 to i64
  %176 = getelementptr inbounds [4 x <16 x float>], ptr %19, i64 0, i64 %175
  %177 = load <16 x float>, ptr %176, align 16
  %178 = fadd reassoc nsz contract <16 x float> %177, %173
  store <16 x float> %178, ptr %176, align 16
  br label %179

179:                                              ; preds = %159
  %180 = load i32, ptr %22, align 4
  %181 = add nsw i32 %180, 1
  store i32 %181, ptr %22, align 4
  br label %155, !llvm.loop !16

182:                                              ; preds = %158
  br label %183

183:                                              ; preds = %182
  %184 = load i64, ptr %18, align 8
  %185 = add nsw i64 %184, 16
  store i64 %185, ptr %18, align 8
  br label %150, !llvm.loop !17

186:                                              ; preds = %150
  br label %187

187:                                              ; preds = %186, %71
  call void @llvm.lifetime.start.p0(ptr %23) #9
  store i64 0, ptr %23, align 8
  br label %188

188:                                              ; preds = %220, %187
  %189 = load i64, ptr %23, align 8
  %190 = load i64, ptr %13, align 8
  %191 = icmp slt i64 %189, %190
  br i1 %191, label %193, label %192

192:                                              ; preds = %188
  store i32 20, ptr %11, align 4
  call void @llvm.lifetime.end.p0(ptr %23) #9
  br label %223

193:                                              ; preds = %188
  call void @llvm.lifetime.start.p0(ptr %24) #9
  %194 = load ptr, ptr %16, align 8
  %195 = load ptr, ptr %14, align 8
  %196 = load i64, ptr %23, align 8
  %197 = load i64, ptr %8, align 8
  %198 = mul nsw i64 %196, %197
  %199 = getelementptr inbounds half, ptr %195, i64 %198
  %200 = load i64, ptr %18, align 8
  %201 = load i64, ptr %8, align 8
  %202 = call reassoc nsz contract float @row_f16(ptr noundef %194, ptr noundef %199, i64 noundef %200, i64 noundef %201)
  store float %202, ptr %24, align 4
  %203 = load i64, ptr %13, align 8
  %204 = icmp eq i64 %203, 4
  br i1 %204, label %205, label %212

205:                                              ; preds = %193
  %206 = load i64, ptr %23, align 8
  %207 = getelementptr inbounds [4 x <16 x float>], ptr %19, i64 0, i64 %206
  %208 = load <16 x float>, ptr %207, align 16
  call void @llvm.lifetime.start.p0(ptr %25) #9
  store <16 x float> %208, ptr %25, align 64
  %209 = call reassoc nsz contract float @sum_of(ptr noundef byval(<16 x float>) align 64 %25)
  call void @llvm.lifetime.end.p0(ptr %25) #9
  %210 = load float, ptr %24, align 4
  %211 = fadd reassoc nsz contract float %209, %210
  br label %214

212:                                              ; preds = %193
  %213 = load float, ptr %24, align 4
  br label %214

214:                                              ; preds = %212, %205
  %215 = phi reassoc nsz contract float [ %211, %205 ], [ %213, %212 ]
  %216 = call reassoc nsz contract half @narrow_f16(float noundef %215)
  %217 = load ptr, ptr %17, align 8
  %218 = load i64, ptr %23, align 8
  %219 = getelementptr inbounds half, ptr %217, i64 %218
  store half %216, ptr %219, align 2
  call void @llvm.lifetime.end.p0(ptr %24) #9
  br label %220

220:                                              ; preds = %214
  %221 = load i64, ptr %23, align 8
  %222 = add nsw i64 %221, 1
  store i64 %222, ptr %23, align 8
  br label %188, !llvm.loop !18

223:                                              ; preds = %192
  call void @llvm.lifetime.end.p0(ptr %19) #9
  call void @llvm.lifetime.end.p0(ptr %18) #9
  call void @llvm.lifetime.end.p0(ptr %17) #9
  call void @llvm.lifetime.end.p0(ptr %16) #9
  br label %224

224:                                              ; preds = %223
  %225 = load i64, ptr %15, align 8
  %226 = add nsw i64 %225, 1
  store i64 %226, ptr %15, align 8
  br label %64, !llvm.loop !19

227:                                              ; preds = %70
  call void @llvm.lifetime.end.p0(ptr %14) #9
  call void @llvm.lifetime.end.p0(ptr %13) #9
  call void @llvm.lifetime.end.p0(ptr %12) #9
  br label %228

228:                                              ; preds = %227
  %229 = load i64, ptr %10, align 8
  %230 = add nsw i64 %229, 1
  store i64 %230, ptr %10, align 8
  br label %34, !llvm.loop !20

231:                                              ; preds = %38
  call void @llvm.lifetime.end.p0(ptr %9) #9
  call void @llvm.lifetime.end.p0(ptr %8) #9
  call void @llvm.lifetime.end.p0(ptr %7) #9
  ret void
}

; Function Attrs: nocallback nofree nounwind willreturn memory(argmem: write)
declare void @llvm.memset.p0.i64(ptr writeonly captures(none), i8, i64, i1 immarg) #6

; Function Attrs: nocallback nofree nosync nounwind willreturn memory(argmem: readwrite, inaccessiblemem: readwrite)
declare void @llvm.prefetch.p0(ptr readonly captures(none), i32 immarg, i32 immarg, i32 immarg) #7

; Function Attrs: inlinehint nounwind uwtable
define internal <16 x float> @widen_bf16(ptr noundef %0) #8 {
  %2 = alloca ptr, align 8
  store ptr %0, ptr %2, align 8
  %3 = load ptr, ptr %2, align 8
  %4 = load <16 x i16>, ptr %3, align 2
  %5 = zext <16 x i16> %4 to <16 x i32>
  %6 = shl <16 x i32> %5, splat (i32 16)
  %7 = bitcast <16 x i32> %6 to <16 x float>
  ret <16 x float> %7
}

; Function Attrs: nounwind uwtable
define internal float @row_bf16(ptr noundef %0, ptr noundef %1, i64 noundef %2, i64 noundef %3) #0 {
  %5 = alloca ptr, align 8
  %6 = alloca ptr, align 8
  %7 = alloca i64, align 8
  %8 = alloca i64, align 8
  %9 = alloca float, align 4
  %10 = alloca i64, align 8
  store ptr %0, ptr %5, align 8
  store ptr %1, ptr %6, align 8
  store i64 %2, ptr %7, align 8
  store i64 %3, ptr %8, align 8
  call void @llvm.lifetime.start.p0(ptr %9) #9
  store float 0.000000e+00, ptr %9, align 4
  call void @llvm.lifetime.start.p0(ptr %10) #9
  %11 = load i64, ptr %7, align 8
  store i64 %11, ptr %10, align 8
  br label %12

12:                                               ; preds = %30, %4
  %13 = load i64, ptr %10, align 8
  %14 = load i64, ptr %8, align 8
  %15 = icmp slt i64 %13, %14
  br i1 %15, label %17, label %16

16:                                               ; preds = %12
  call void @llvm.lifetime.end.p0(ptr %10) #9
  br label %33

17:                                               ; preds = %12
  %18 = load ptr, ptr %6, align 8
  %19 = load i64, ptr %10, align 8
  %20 = getelementptr inbounds i16, ptr %18, i64 %19
  %21 = load i16, ptr %20, align 2
  %22 = call reassoc nsz contract float @widen_one_bf16(i16 noundef zeroext %21)
  %23 = load ptr, ptr %5, align 8
  %24 = load i64, ptr %10, align 8
  %25 = getelementptr inbounds float, ptr %23, i64 %24
  %26 = load float, ptr %25, align 4
  %27 = fmul reassoc nsz contract float %22, %26
  %28 = load float, ptr %9, align 4
  %29 = fadd reassoc nsz contract float %28, %27
  store float %29, ptr %9, align 4
  br label %30

30:                                               ; preds = %17
  %31 = load i64, ptr %10, align 8
  %32 = add nsw i64 %31, 1
  store i64 %32, ptr %10, align 8
  br label %12, !llvm.loop !21

33:                                               ; preds = %16
  %34 = load float, ptr %9, align 4
  call void @llvm.lifetime.end.p0(ptr %9) #9
  ret float %34
}

; Function Attrs: inlinehint nounwind uwtable
define internal zeroext i16 @narrow_bf16(float noundef %0) #3 {
  %2 = alloca float, align 4
  %3 = alloca %union.anon.0, align 4
  store float %0, ptr %2, align 4
  call void @llvm.lifetime.start.p0(ptr %3) #9
  %4 = load float, ptr %2, align 4
  store float %4, ptr %3, align 4
  %5 = load float, ptr %2, align 4
  %6 = load float, ptr %2, align 4
  %7 = fcmp reassoc nsz contract une float %5, %6
  br i1 %7, label %8, label %9

8:                                                ; preds = %1
  br label %17

9:                                                ; preds = %1
  %10 = load i32, ptr %3, align 4
  %11 = add i32 %10, 32767
  %12 = load i32, ptr %3, align 4
  %13 = lshr i32 %12, 16
  %14 = and i32 %13, 1
  %15 = add i32 %11, %14
  %16 = lshr i32 %15, 16
  br label %17

17:                                               ; preds = %9, %8
  %18 = phi i32 [ 32704, %8 ], [ %16, %9 ]
  %19 = trunc i32 %18 to i16
  call void @llvm.lifetime.end.p0(ptr %3) #9
  ret i16 %19
}

; Function Attrs: inlinehint nounwind uwtable
define internal float @sum_of(ptr noundef byval(<16 x float>) align 64 %0) #3 {
  %2 = alloca <16 x float>, align 4
  %3 = alloca float, align 4
  %4 = alloca i32, align 4
  %5 = load <16 x float>, ptr %0, align 64
  store <16 x float> %5, ptr %2, align 4
  call void @llvm.lifetime.start.p0(ptr %3) #9
  store float 0.000000e+00, ptr %3, align 4
  call void @llvm.lifetime.start.p0(ptr %4) #9
  store i32 0, ptr %4, align 4
  br label %6

6:                                                ; preds = %16, %1
  %7 = load i32, ptr %4, align 4
  %8 = icmp slt i32 %7, 16
  br i1 %8, label %10, label %9

9:                                                ; preds = %6
  call void @llvm.lifetime.end.p0(ptr %4) #9
  br label %19

10:                                               ; preds = %6
  %11 = load <16 x float>, ptr %2, align 4
  %12 = load i32, ptr %4, align 4
  %13 = extractelement <16 x float> %11, i32 %12
  %14 = load float, ptr %3, align 4
  %15 = fadd reassoc nsz contract float %14, %13
  store float %15, ptr %3, align 4
  br label %16

16:                                               ; preds = %10
  %17 = load i32, ptr %4, align 4
  %18 = add nsw i32 %17, 1
  store i32 %18, ptr %4, align 4
  br label %6, !llvm.loop !22

19:                                               ; preds = %9
  %20 = load float, ptr %3, align 4
  call void @llvm.lifetime.end.p0(ptr %3) #9
  ret float %20
}

; Function Attrs: inlinehint nounwind uwtable
define internal <16 x float> @widen_f16(ptr noundef %0) #8 {
  %2 = alloca ptr, align 8
  store ptr %0, ptr %2, align 8
  %3 = load ptr, ptr %2, align 8
  %4 = load <16 x half>, ptr %3, align 2
  %5 = fpext reassoc nsz contract <16 x half> %4 to <16 x float>
  ret <16 x float> %5
}

; Function Attrs: nounwind uwtable
define internal float @row_f16(ptr noundef %0, ptr noundef %1, i64 noundef %2, i64 noundef %3) #0 {
  %5 = alloca ptr, align 8
  %6 = alloca ptr, align 8
  %7 = alloca i64, align 8
  %8 = alloca i64, align 8
  %9 = alloca float, align 4
  %10 = alloca i64, align 8
  store ptr %0, ptr %5, align 8
  store ptr %1, ptr %6, align 8
  store i64 %2, ptr %7, align 8
  store i64 %3, ptr %8, align 8
  call void @llvm.lifetime.start.p0(ptr %9) #9
  store float 0.000000e+00, ptr %9, align 4
  call void @llvm.lifetime.start.p0(ptr %10) #9
  %11 = load i64, ptr %7, align 8
  store i64 %11, ptr %10, align 8
  br label %12

12:                                               ; preds = %30, %4
  %13 = load i64, ptr %10, align 8
  %14 = load i64, ptr %8, align 8
  %15 = icmp slt i64 %13, %14
  br i1 %15, label %17, label %16

16:                                               ; preds = %12
  call void @llvm.lifetime.end.p0(ptr %10) #9
  br label %33

17:                                               ; preds = %12
  %18 = load ptr, ptr %6, align 8
  %19 = load i64, ptr %10, align 8
  %20 = getelementptr inbounds half, ptr %18, i64 %19
  %21 = load half, ptr %20, align 2
  %22 = call reassoc nsz contract float @widen_one_f16(half noundef %21)
  %23 = load ptr, ptr %5, align 8
  %24 = load i64, ptr %10, align 8
  %25 = getelementptr inbounds float, ptr %23, i64 %24
  %26 = load float, ptr %25, align 4
  %27 = fmul reassoc nsz contract float %22, %26
  %28 = load float, ptr %9, align 4
  %29 = fadd reassoc nsz contract float %28, %27
  store float %29, ptr %9, align 4
  br label %30

30:                                               ; preds = %17
  %31 = load i64, ptr %10, align 8
  %32 = add nsw i64 %31, 1
  store i64 %32, ptr %10, align 8
  br label %12, !llvm.loop !23

33:                                               ; preds = %16
  %34 = load float, ptr %9, align 4
  call void @llvm.lifetime.end.p0(ptr %9) #9
  ret float %34
}

; Function Attrs: inlinehint nounwind uwtable
define internal half @narrow_f16(float noundef %0) #3 {
  %2 = alloca float, align 4
  store float %0, ptr %2, align 4
  %3 = load float, ptr %2, align 4
  %4 = fptrunc reassoc nsz contract float %3 to half
  ret half %4
}

attributes #0 = { nounwind }
attributes #1 = { nounwind }
attributes #2 = { nounwind }
attributes #3 = { nounwind }
attributes #4 = { nounwind }
attributes #5 = { nounwind }
attributes #6 = { nounwind }
attributes #7 = { nounwind }
attributes #8 = { nounwind }
attributes #9 = { nounwind }
attributes #10 = { nounwind }


!0 = !{i32 7, !"Dwarf Version", i32 4}
!1 = !{i32 1, !"wchar_size", i32 4}
!2 = !{i32 7, !"uwtable", i32 2}
!3 = !{!"clang version 22.1.8"}
!4 = distinct !{!4, !5}
!5 = !{!"llvm.loop.mustprogress"}
!6 = distinct !{!6, !5}
!7 = distinct !{!7, !5}
!8 = distinct !{!8, !5}
!9 = distinct !{!9, !5}
!10 = distinct !{!10, !5}
!11 = distinct !{!11, !5}
!12 = distinct !{!12, !5}
!13 = distinct !{!13, !5}
!14 = distinct !{!14, !5}
!15 = distinct !{!15, !5}
!16 = distinct !{!16, !5}
!17 = distinct !{!17, !5}
!18 = distinct !{!18, !5}
!19 = distinct !{!19, !5}
!20 = distinct !{!20, !5}
!21 = distinct !{!21, !5}
!22 = distinct !{!22, !5}
!23 = distinct !{!23, !5}
